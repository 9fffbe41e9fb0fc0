"""Adversarial objectives, penalties on D's gradient, and V(D, G) with its Jensen-Shannon estimate."""
