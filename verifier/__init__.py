"""Network and property in, verdict and evidence out."""
