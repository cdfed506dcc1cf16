"""Attacks: gradients and queries propose points, exact arithmetic decides whether they count."""
