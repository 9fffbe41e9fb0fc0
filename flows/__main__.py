"""`python -m flows`: run `gan-training` once, on the server that PREFECT_API_URL names, or without one."""

import sys

from flows.stage import StageFailedError
from flows.training import gan_training

if __name__ == "__main__":
    try:
        gan_training()
    except StageFailedError as error:
        sys.exit(f"error: {error}")
