"""Sweeps: scores of a training while it trains, and trials as runs of MLflow."""
