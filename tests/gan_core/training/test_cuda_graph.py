from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_core.config import (
    AdaConfig,
    AugmentationConfig,
    ComputeConfig,
    ExecutionConfig,
    MlpConfig,
    NetworkConfig,
    Schedule,
    TrainConfig,
)
from gan_core.runtime.device import Arithmetic
from gan_core.training.batches import Batches, StreamedBatches
from gan_core.training.checkpoints import restore_checkpoint, save_checkpoint
from gan_core.training.cuda_graph import WARM_UP, CudaGraphStep
from gan_core.training.execution import execution_of, fitting_parts
from gan_core.training.loop import train
from gan_core.training.state import TrainState, initial_state
from gan_core.training.steps import Step, train_step
from tests.gan_core.examples import (
    ADAPTIVE,
    CLASSES,
    CONDITIONAL,
    DCGAN,
    IMAGES,
    MLP,
    POLICY,
    TRAIN,
    all_networks,
    batches,
    everything,
    families,
    fresh,
    same_bits,
)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
STEPS = 2 * WARM_UP + 4


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.backends.cudnn.deterministic = True


class Recorder:
    """Stands in for CUDA's graphs on a CPU: a capture runs nothing, a replay computes what was captured."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.registered: list[torch.Generator] = []
        self.replays = 0
        self._capturing = False
        monkeypatch.setattr("gan_core.training.cuda_graph.train_step", self.train_step)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        for name in ("Stream", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, lambda: SimpleNamespace(wait_stream=lambda _: None))

    @contextmanager
    def graph(self, graph: object, stream: object, capture_error_mode: str) -> Iterator[None]:
        self._capturing = True
        yield
        self._capturing = False

    def train_step(self, state: TrainState, batches: Batches, step: int) -> Tensor:
        if not self._capturing:
            return train_step(state, batches, step)
        self._captured = (state, batches, step)
        self._losses = torch.zeros(state.config.discriminator_steps + 1)
        return self._losses

    def register_generator_state(self, rng: torch.Generator) -> None:
        self.registered.append(rng)

    def replay(self) -> None:
        self.replays += 1
        self._losses.copy_(train_step(*self._captured))


BY_DIFFERENCES: dict[str, Any] = {"penalty_gradient": "finite_difference", "wgan_gp": 0.5}
SCHEDULED: dict[str, Any] = {"r1_gamma": Schedule(0.5, 0.1, "cosine", 64), "beta2": Schedule(0.8, 0.9, "linear", None)}


@pytest.mark.parametrize(
    ("loss", "z", "more"),
    [("non_saturating", "fresh", {}), ("relativistic", "shared", {}), ("wasserstein", "fresh", BY_DIFFERENCES)],
)
@all_networks
def test_what_is_replayed_draws_what_its_step_names(
    network: NetworkConfig, loss: Any, z: Any, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(TRAIN, loss=loss, generator_z=z, steps=STEPS, **more)
    launched, replayed = (fresh(config, network) for _ in range(2))
    expected = [report.read() for report in train(launched, batches(launched))]
    recorder, reported = Recorder(monkeypatch), list[str]()
    step = CudaGraphStep(reported.append)
    assert [report.read() for report in train(replayed, batches(replayed), step)] == expected
    assert same_bits(everything(launched), everything(replayed))
    assert recorder.replays == STEPS - WARM_UP
    assert reported == ["as one CUDA graph"]
    # The masks of real and generated images, if the network has dropout; no generator from which nothing is drawn.
    masks = (5 if more else 2) * config.discriminator_steps + (2 if loss == "relativistic" else 1)
    assert len(recorder.registered) == (masks if isinstance(network, MlpConfig) else 0)


@pytest.mark.parametrize("augmentation", [POLICY, ADAPTIVE], ids=["diffaugment", "ada"])
def test_a_replayed_step_is_augmented_by_its_own_draws(
    augmentation: AugmentationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(TRAIN, steps=STEPS, mirror=True)
    if isinstance(augmentation, AdaConfig):
        augmentation = replace(augmentation, target=0.0)  # rises at once
    launched, replayed = (initial_state(config, MLP, IMAGES, augmentation=augmentation) for _ in range(2))
    for state in (launched, replayed):
        state.augment_probability.fill_(0.5)
    expected = [report.read() for report in train(launched, Batches(launched, IMAGES, unseen=IMAGES))]
    Recorder(monkeypatch)
    step, place = CudaGraphStep(lambda _: None), replayed.augment_probability.data_ptr()
    assert [report.read() for report in train(replayed, Batches(replayed, IMAGES, unseen=IMAGES), step)] == expected
    assert same_bits(everything(launched), everything(replayed))
    assert replayed.augment_probability.data_ptr() == place


def cuda() -> torch.device:
    return torch.device("cuda")


def started(config: TrainConfig, network: NetworkConfig, bf16: bool = False) -> TrainState:
    classes = CLASSES if network.conditional else 0
    return initial_state(config, network, IMAGES, Arithmetic(bf16, 1), cuda(), classes=classes)


def trained(state: TrainState, step: Step, drawn: Batches | None = None) -> list[Any]:
    return [report.read() for report in train(state, drawn or batches(state, IMAGES.cuda()), step)]


@needs_gpu
def test_a_captured_step_is_augmented_as_a_launched_one() -> None:
    launched, captured = (
        initial_state(replace(TRAIN, steps=STEPS), DCGAN, IMAGES, device=cuda(), augmentation=POLICY) for _ in range(2)
    )
    assert trained(launched, train_step) == trained(captured, CudaGraphStep(lambda _: None))
    assert same_bits(everything(launched), everything(captured))


@needs_gpu
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    ("loss", "more"), [("non_saturating", {}), ("relativistic", SCHEDULED), ("hinge", BY_DIFFERENCES)]
)
@all_networks
def test_a_captured_step_has_the_bits_of_a_launched_one(
    network: NetworkConfig, loss: Any, more: dict[str, Any], bf16: bool
) -> None:
    config = replace(TRAIN, loss=loss, steps=STEPS, **more)
    launched, captured, reported = started(config, network, bf16), started(config, network, bf16), list[str]()
    step = CudaGraphStep(reported.append)
    assert trained(launched, train_step) == trained(captured, step)
    assert reported == ["as one CUDA graph"]
    assert same_bits(everything(launched), everything(captured))


@needs_gpu
@families
def test_going_on_from_a_checkpoint_has_the_bits_of_never_stopping(network: NetworkConfig, tmp_path: Path) -> None:
    config = replace(TRAIN, steps=STEPS)
    whole, stopped, resumed = started(config, network), started(config, network), started(config, network)
    trained(whole, CudaGraphStep(print))
    for report in train(stopped, Batches(stopped, IMAGES.cuda()), CudaGraphStep(print)):
        if report.step == WARM_UP + 2:
            break
    save_checkpoint(tmp_path / "state.safetensors", stopped)
    restore_checkpoint(tmp_path / "state.safetensors", resumed)
    trained(resumed, CudaGraphStep(print))
    assert same_bits(everything(whole), everything(resumed))


@needs_gpu
@pytest.mark.parametrize("network", [DCGAN, CONDITIONAL[1]], ids=["plain", "conditional"])
def test_streamed_images_are_those_that_are_resident(network: NetworkConfig) -> None:
    config = replace(TRAIN, steps=STEPS)
    resident, streamed = started(config, network), started(config, network)
    trained(resident, CudaGraphStep(print))
    trained(streamed, CudaGraphStep(print), batches(streamed, kind=StreamedBatches))
    assert same_bits(everything(resident), everything(streamed))


@pytest.mark.parametrize("again", [False, True])
def test_a_step_that_cannot_be_captured_is_launched(again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(TRAIN, steps=STEPS)
    recorder, reported = Recorder(monkeypatch), list[str]()
    monkeypatch.setattr("gan_core.training.cuda_graph._FAILED", [recorder] if again else [])
    monkeypatch.setattr(torch.cuda, "set_stream", lambda _: None)

    capture = recorder.graph

    @contextmanager
    def failing(*arguments: Any, **options: Any) -> Iterator[None]:
        with capture(*arguments, **options):
            yield
        raise RuntimeError("operation not permitted when stream is capturing\nadvice")

    monkeypatch.setattr(torch.cuda, "graph", failing)
    launched, fallen = (initial_state(config, MLP, IMAGES) for _ in range(2))
    expected = [report.read() for report in train(launched, IMAGES)]
    assert [report.read() for report in train(fallen, IMAGES, CudaGraphStep(reported.append))] == expected
    assert same_bits(everything(launched), everything(fallen))
    reason = "could not be captured before" if again else "(operation not permitted when stream is capturing)"
    assert [how.startswith("kernel by kernel") and how.endswith(reason) for how in reported] == [True]
    assert recorder.replays == 0


@needs_gpu
def test_a_batch_that_is_too_large_has_a_largest_part_that_fits() -> None:
    network = replace(DCGAN, generator_width=64, discriminator_width=64)
    images = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    config = replace(TRAIN, batch_size=2**15, discriminator_steps=1, r1_gamma=0.0, r2_gamma=0.0)
    how = execution_of(ComputeConfig("cuda", 1), ExecutionConfig("fp32", 1, 1), network)
    state = initial_state(config, network, images, how.arithmetic, how.device)
    placed = how.batches_of(how.placed(images))(state, how.placed(images))
    torch.cuda.set_per_process_memory_fraction(0.3)
    with pytest.raises(torch.OutOfMemoryError):
        trained(state, how.step(print), placed)
    parts = fitting_parts(state, placed)
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert parts is not None
    assert parts > 1
