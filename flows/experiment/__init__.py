"""A run with parameters of its own: as a form, in a workspace, kept as an experiment of DVC."""
