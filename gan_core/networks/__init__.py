"""Generators and discriminators: one file a family, their layers, and `build.py`, which lists the families."""
