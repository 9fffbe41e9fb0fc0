"""Prefect flows: when and where stages run, through DVC. `python -m flows` runs `gan-training` once."""
