"""A step as one CUDA graph: small networks keep a GPU waiting for hundreds of launches, and a graph is launched once.

PyTorch's documentation, "CUDA Graphs": everything inside of a graph is at a fixed place in memory, so what changes from
step to step (images, seeds, learning rates) is written to its place before the graph is replayed.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from gan_core.config import TrainConfig
from gan_core.runtime.randomness import stream_seed
from gan_core.training.batches import Batches, Name
from gan_core.training.state import TrainState
from gan_core.training.steps import play_step

WARM_UP = 3
"""Steps that are played one launch after another, before one is captured: libraries choose their algorithms in them."""


_FAILED: list[torch.cuda.CUDAGraph] = []
"""Graphs whose capture failed: torch's allocator may still point to them, and no other is tried."""


class CudaGraphStep:
    """Plays steps as `play_step` does, from the fourth on by replaying one graph.

    A step that cannot be captured goes on being played launch by launch.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._graph: torch.cuda.CUDAGraph | None = None
        self._places: _Places | None = None
        self._losses = torch.empty(0)
        self._stream = torch.cuda.Stream()
        self._played = 0

    def __call__(self, config: TrainConfig, state: TrainState, draws: Batches, step: int) -> Tensor:
        """Play one step; of the fourth, say how it and the others are played.

        Args:
            config: as `play_step` takes it.
            state: both players, on CUDA.
            draws: of this training.
            step: number of the step.

        Returns:
            The losses (k + 1,) in nats: the discriminator's, then the generator's.
        """
        if self._places is None:
            self._places = _Places(draws)
        if self._played == WARM_UP:
            self._say(self._capture(config, state, self._places, step))
        self._played += 1
        if self._graph is None and self._played > WARM_UP:
            return play_step(config, state, draws, step)
        self._places.fill(step)
        if self._graph is None:
            return self._launched(config, state, self._places, step)
        self._graph.replay()
        return self._losses.clone()

    def _capture(self, config: TrainConfig, state: TrainState, places: "_Places", step: int) -> str:
        if _FAILED:
            return "launch by launch: a step could not be captured before"
        graph, main = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        places.register(graph)
        try:
            # Only this thread: another may be gathering the next batch into pinned memory.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._losses = play_step(config, state, places, step)
        except RuntimeError as error:
            _FAILED.append(graph)
            torch.cuda.set_stream(main)
            return f"launch by launch: a step cannot be captured ({str(error).splitlines()[0]})"
        self._graph = graph
        return "as one CUDA graph"

    def _launched(self, config: TrainConfig, state: TrainState, draws: Batches, step: int) -> Tensor:
        """Play a step on the stream of the capture, as steps before it must be."""
        main = torch.cuda.current_stream()
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            losses = play_step(config, state, draws, step)
        main.wait_stream(self._stream)
        return losses


class _Places(Batches):
    """The draws of a step at fixed places: made when a step first names them, and filled anew for every step."""

    def __init__(self, draws: Batches) -> None:
        super().__init__(draws.config, draws.images, draws.device)
        self._draws = draws
        self._batches: dict[Name, Tensor] = {}
        self._rngs: dict[Name, Generator] = {}
        self._idle: dict[Name, Generator] = {}

    def fill(self, step: int) -> None:
        """Put what `step` draws where its graph reads it."""
        for (purpose, rest), batch in self._batches.items():
            batch.copy_(self._draws.batch(purpose, step, *rest), non_blocking=True)
        for (purpose, rest), rng in self._rngs.items():
            rng.manual_seed(stream_seed(self.config.seed, purpose, step, *rest))

    def register(self, graph: torch.cuda.CUDAGraph) -> None:
        """Let a graph read the seeds of those generators from which a step draws anything."""
        self._idle = {name: rng for name, rng in self._rngs.items() if _is_fresh(rng)}
        for name in self._idle:
            del self._rngs[name]
        for rng in self._rngs.values():
            graph.register_generator_state(rng)

    def batch(self, purpose: str, *counters: int) -> Tensor:
        """Return the place of a batch."""
        name = (purpose, counters[1:])
        if name not in self._batches:
            self._batches[name] = self._draws.batch(purpose, *counters).clone()
        return self._batches[name]

    def rng(self, purpose: str, *counters: int) -> Generator:
        """Return the generator that stands for a name in every step."""
        name = (purpose, counters[1:])
        if name in self._idle:
            return self._idle[name]
        if name not in self._rngs:
            self._rngs[name] = self._draws.rng(purpose, *counters)
        return self._rngs[name]


def _is_fresh(rng: Generator) -> bool:
    """Say whether nothing was drawn since the generator was seeded."""
    return torch.equal(rng.get_state(), Generator(rng.device).manual_seed(rng.initial_seed()).get_state())
