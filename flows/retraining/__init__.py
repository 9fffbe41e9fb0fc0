"""New images, new model: what is new, and what comes of it."""
