from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import gan_core.training.execution
from gan_core.config import ComputeConfig, ExecutionConfig, NetworkConfig
from gan_core.training.batches import Batches, StreamedBatches
from gan_core.training.execution import Execution, execution_of, fitting_parts
from gan_core.training.state import TrainState
from gan_core.training.steps import train_step
from tests.gan_core.examples import DCGAN, IMAGES, MLP, TRAIN, families, fresh

ONE_CPU = ComputeConfig("cpu", 1)


@pytest.mark.parametrize("has_it", [True, False])
@families
def test_auto_is_bf16_for_convolutions_if_the_device_has_it(
    network: NetworkConfig, has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan_core.training.execution.has_bf16", lambda _: has_it)
    chosen = {
        precision: execution_of(ONE_CPU, ExecutionConfig(precision, 1, 1), network).arithmetic.bf16
        for precision in ("auto", "fp32", "bf16")
    }
    assert chosen == {"auto": has_it and network != MLP, "fp32": False, "bf16": True}


def test_the_log_says_where_and_how() -> None:
    how = execution_of(ONE_CPU, ExecutionConfig("bf16", 1, 1), DCGAN)
    assert how.summary(IMAGES) == "CPU, bf16 inside the networks; 40 images (0.0 MB) mapped from disk"
    assert "fp32" in execution_of(ONE_CPU, ExecutionConfig("fp32", 1, 1), DCGAN).summary(IMAGES)


def test_on_the_cpu_nothing_is_copied() -> None:
    how = execution_of(ONE_CPU, ExecutionConfig("auto", 1, 1), MLP)
    assert how.placed(IMAGES) is IMAGES
    assert how.batches_of(IMAGES) is Batches
    assert how.step(print) is train_step


def test_what_does_not_fit_on_a_gpu_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    arithmetic = execution_of(ONE_CPU, ExecutionConfig("auto", 1, 1), MLP).arithmetic
    how = Execution(torch.device("cuda"), arithmetic)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2 * IMAGES.nbytes - 2, 10**12))
    assert how.placed(IMAGES) is IMAGES
    assert how.batches_of(how.placed(IMAGES)) is StreamedBatches
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**12, 10**12))
    monkeypatch.setattr(gan_core.training.execution, "RESIDENT_AT_MOST", IMAGES.nbytes - 1)
    assert how.placed(IMAGES) is IMAGES


@pytest.mark.parametrize(("room", "parts"), [(11, 2), (6, 2), (5, 3), (3, 4), (1, 12), (0, None)])
@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_the_fewest_equal_parts_that_fit_are_found(
    room: int, parts: int | None, gamma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A memory with room for that many images of a batch of 12 in the generator's step, which keeps more than D's."""
    config = replace(TRAIN, batch_size=12, r1_gamma=gamma, r2_gamma=gamma)
    state = fresh(config, DCGAN)
    logits = type(state).logits

    def in_little_memory(self: TrainState, images: Tensor, *rng: Any) -> Tensor:
        if images.requires_grad and images.grad_fn is not None and len(images) > room:
            raise torch.OutOfMemoryError
        return logits(self, images, *rng)

    monkeypatch.setattr(TrainState, "logits", in_little_memory)
    with pytest.raises(torch.OutOfMemoryError):
        train_step(state, Batches(state, IMAGES), 1)
    assert fitting_parts(state, Batches(state, IMAGES)) == parts
