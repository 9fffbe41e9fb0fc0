"""From any source of images to uint8 arrays and a manifest."""
