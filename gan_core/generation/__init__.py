"""Latents, images from them, and the file of a generator."""
