"""Measurements beside the pipeline: each module prints one table."""
