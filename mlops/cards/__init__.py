"""What a person reads of a version: its card and its comparison with others."""
