"""Rigorous bounds on what a network can output on a box."""
