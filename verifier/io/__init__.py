"""Reading and writing models and properties."""
