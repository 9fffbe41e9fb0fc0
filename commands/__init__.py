"""Commands that a user types: compare, generate, promote, rebuild, preset."""
