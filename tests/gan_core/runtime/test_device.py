import subprocess
import sys
from collections.abc import Iterator
from typing import Literal

import pytest
import torch

from gan_core.config import ComputeConfig
from gan_core.runtime.device import configure_torch, pick_device


@pytest.fixture(autouse=True)
def _settings_of_torch_stay(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("asked", "has_gpu", "given"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_the_device_is_what_was_asked_for_and_auto_prefers_the_gpu(
    asked: Literal["auto", "cpu", "cuda"], has_gpu: bool, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    threads = torch.get_num_threads()
    assert pick_device(ComputeConfig(asked, threads + 1)) == torch.device(given)
    assert torch.get_num_threads() == threads
    assert not torch.backends.cudnn.deterministic


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"compute\.device is cuda"):
        pick_device(ComputeConfig("cuda", 1))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_determinism_are_set(threads: int) -> None:
    configure_torch(ComputeConfig("cpu", threads))
    assert torch.get_num_threads() == threads
    assert torch.backends.cudnn.deterministic


STEPS = """
import resource, torch
from gan_core.config import ComputeConfig
from gan_core.runtime.device import configure_torch
{setup}
for step in range(60):
    if step == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    images = x = torch.ones(2**20, requires_grad=True)
    for _ in range(8):
        x = 1.5 * x
    x.sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can keep what is freed")
def test_what_a_step_frees_is_there_for_the_next_one() -> None:
    def faults(setup: str) -> int:
        ended = subprocess.run([sys.executable, "-c", STEPS.format(setup=setup)], capture_output=True, check=True)
        return int(ended.stdout)

    assert faults("configure_torch(ComputeConfig('cpu', 1))") < faults("") / 4
