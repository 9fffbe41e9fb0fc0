"""What a person asks for: compare, generate, promote, rebuild, preset."""
