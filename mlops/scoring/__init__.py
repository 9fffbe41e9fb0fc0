"""Scores with intervals, the passport that says what they depend on, and the comparison of two models."""
