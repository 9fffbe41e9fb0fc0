"""What a version was made from, and a clone of the project to make it again."""
