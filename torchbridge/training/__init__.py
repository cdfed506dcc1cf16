"""Training: architectures, objectives, and a loop that goes on after it was killed."""
