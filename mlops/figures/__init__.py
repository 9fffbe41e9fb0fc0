"""Grids of images, and curves."""
