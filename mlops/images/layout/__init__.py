"""What the folders of a user's images mean."""
