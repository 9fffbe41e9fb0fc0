from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# Examples repeat from run to run, and a slow shared machine fails nothing: tests count steps, never seconds.
settings.register_profile("equilibrium", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("equilibrium")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
