"""The command line: one file a command, and what a person reads."""

__version__ = "0.1.0"
