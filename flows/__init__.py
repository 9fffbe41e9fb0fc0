"""Prefect flows: when and where stages run, through DVC. `python -m flows` runs `gan-training` once."""

from flows.environment import end_with_worker, settle

settle()  # before Prefect is imported, which reads these variables; all that a flow starts inherits them
end_with_worker()
