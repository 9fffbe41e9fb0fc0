"""`python -m flows`: run `gan-training` once, on the server that PREFECT_API_URL names, or without one."""

import sys

from flows.environment import check_server
from flows.failure import StageFailedError
from flows.training import gan_training

if __name__ == "__main__":
    check_server()
    try:
        gan_training()
    except StageFailedError as error:
        sys.exit(f"error: {error}")
