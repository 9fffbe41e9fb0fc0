"""MLflow's side of a sweep, in a process of its own: a question and an answer are a line of JSON each."""

import json
import subprocess
import sys
from contextlib import suppress
from typing import Any, Self

from prefect import get_run_logger

from flows.environment import of_children


class Record:
    """The run of a sweep in MLflow. Without an answer the sweep goes on, and nothing is pruned."""

    def __init__(self, name: str, sweep: str, params: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlops.tracking.sweeps.record"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=of_children(),
        )
        self._warned = False
        self.place = self.ask(name=name, sweep=sweep, params=params)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]  # both are pipes
        self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]

    def ask(self, **question: Any) -> dict[str, Any]:
        """Return the answer of `mlops/tracking/sweeps/record.py`; empty if there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answer: dict[str, Any] = {"error": "its process has ended"}
        with suppress(OSError, ValueError):
            print(json.dumps(question), file=self._process.stdin, flush=True)
            answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            if not self._warned:
                get_run_logger().warning(f"MLflow lacks this sweep: {answer['error']}")
            self._warned = True
            return {}
        return answer
