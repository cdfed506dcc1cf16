"""Complete and incomplete searches for a verdict."""
