"""`python -m flows`: run `gan-training` once, on the server that PREFECT_API_URL names, or without one."""

import sys

from flows.environment import check_pipeline, check_server
from flows.training import gan_training

if __name__ == "__main__":
    check_server()
    check_pipeline()
    state = gan_training(return_state=True)
    if not state.is_completed():
        sys.exit(f"error: {state.message}")
