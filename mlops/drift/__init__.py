"""What a new version of the images has that the former one had not."""
