"""The structures that every room shares: networks, properties, verdicts, exact numbers, errors."""
