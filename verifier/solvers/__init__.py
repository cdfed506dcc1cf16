"""Thin wrappers around linear-programming solvers; what they answer is a hint."""
