"""A step as one CUDA graph: small networks keep a GPU waiting for hundreds of launches, and a graph is launched once.

PyTorch's documentation, "CUDA Graphs": everything inside a graph is at a fixed place in memory, so what changes from
step to step (images, labels, latents, noise, seeds, scheduled numbers) is written to its place before the graph is
replayed.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from gan_core.runtime.randomness import unused
from gan_core.training.batches import Batches
from gan_core.training.state import TrainState
from gan_core.training.step_batch import StepBatch
from gan_core.training.steps import train_step

WARM_UP = 3
"""Steps that are launched kernel by kernel before one is captured: libraries choose their algorithms in them."""
_FAILED: list[torch.cuda.CUDAGraph] = []
"""Graphs whose capture failed: torch's allocator may still point to them, and no other is tried."""


class CudaGraphStep:
    """Computes steps as `train_step` does, from the fourth on by replaying one graph.

    If a step cannot be captured, all steps are launched kernel by kernel.
    """

    def __init__(self, report: Callable[[str], object]) -> None:
        self._report = report
        self._graph: torch.cuda.CUDAGraph | None = None
        self._static: _StaticBatches | None = None
        self._losses = torch.empty(0)
        self._stream = torch.cuda.Stream()
        self._computed = 0

    def __call__(self, state: TrainState, batches: Batches, step: int) -> Tensor:
        """Compute one step as `train_step` does, on CUDA; before the fourth, report how all following are executed."""
        if self._static is None:
            self._static = _StaticBatches(state, batches, step)
        if self._computed == WARM_UP:
            self._report(self._capture(state, self._static, step))
        self._computed += 1
        if self._graph is None and self._computed > WARM_UP:
            return train_step(state, batches, step)
        self._static.fill(step)
        if self._graph is None:
            return self._launched(state, self._static, step)
        self._graph.replay()
        return self._losses.clone()

    def _capture(self, state: TrainState, static: "_StaticBatches", step: int) -> str:
        if _FAILED:
            return "kernel by kernel: a step could not be captured before"
        graph, main = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        for rng in static.used():
            graph.register_generator_state(rng)
        try:
            # Only this thread: another may be gathering the next batch into pinned memory.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._losses = train_step(state, static, step)
        except RuntimeError as error:
            _FAILED.append(graph)
            torch.cuda.set_stream(main)
            return f"kernel by kernel: a step cannot be captured ({str(error).splitlines()[0]})"
        self._graph = graph
        return "as one CUDA graph"

    def _launched(self, state: TrainState, batches: Batches, step: int) -> Tensor:
        """Compute a step on the stream of the capture, as steps before it must be."""
        main = torch.cuda.current_stream()
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            losses = train_step(state, batches, step)
        main.wait_stream(self._stream)
        return losses


class _StaticBatches(Batches):
    """The draws of a step at fixed places in memory, which are filled anew for every step."""

    def __init__(self, state: TrainState, batches: Batches, step: int) -> None:
        super().__init__(state, batches.images, batches.labels)
        self._batches = batches
        self._places = self._drawn(step)

    def discriminator(self, step: int, k: int) -> StepBatch:
        return self._places[k]

    def generator(self, step: int) -> StepBatch:
        return self._places[-1]

    def fill(self, step: int) -> None:
        """Write what `step` draws to the places from which its graph reads."""
        for place, drawn in zip(self._places, self._drawn(step), strict=True):
            for name, value in vars(place).items():
                if isinstance(value, Tensor):
                    value.copy_(getattr(drawn, name))
                elif isinstance(value, Generator):
                    value.manual_seed(getattr(drawn, name).initial_seed())

    def used(self) -> list[Generator]:
        """Return those generators from which the last step has drawn, whose state is not that of their seed."""
        rngs = [rng for place in self._places for rng in vars(place).values() if isinstance(rng, Generator)]
        return [rng for rng in rngs if not torch.equal(rng.get_state(), unused(rng).get_state())]

    def _drawn(self, step: int) -> list[StepBatch]:
        """Return the draws of the discriminator's updates, then the generator's."""
        updates = [self._batches.discriminator(step, k) for k in range(self.config.discriminator_steps)]
        return [*updates, self._batches.generator(step)]
