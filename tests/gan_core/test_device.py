from collections.abc import Iterator
from typing import Literal

import pytest
import torch

from gan_core.config import ComputeConfig
from gan_core.device import pick_device


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
    assert pick_device(ComputeConfig(asked, 1)) == torch.device(given)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"compute\.device is cuda"):
        pick_device(ComputeConfig("cuda", 1))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_determinism_are_set(threads: int) -> None:
    pick_device(ComputeConfig("cpu", threads))
    assert torch.get_num_threads() == threads
    assert torch.backends.cudnn.deterministic
