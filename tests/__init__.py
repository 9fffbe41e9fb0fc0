"""Tests, which run beside each other: NumPy takes one thread of each process, before anything loads it."""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
