"""Folders, zip and tar archives of a person, read alike."""
