"""Whether generated images help a classifier of real ones."""
