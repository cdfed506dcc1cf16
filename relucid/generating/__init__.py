"""Families of instances with known truth, one a module: what ``relucid generate`` writes."""
