"""Pipelines of their own, beside the main one, each with its code."""
