"""When and where stages run: Prefect flows that drive DVC. `python -m flows` runs `gan-training` once."""
