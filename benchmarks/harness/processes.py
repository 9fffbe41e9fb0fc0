"""The processes of a pipeline that runs in a folder: which they are, and whether they live."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages

MARKS: dict[str, Callable[[list[str]], bool]] = {
    "trainer": lambda words: "stages" in words and bool({"train", "replicate"} & set(words)),
    "stage": lambda words: "stages" in words,
    "dvc": lambda words: "repro" in words or words[-1:] == ["dvc"],
    "flow": lambda words: words[-1:] == ["flows"] or "prefect.engine" in words or "prefect.flow_engine" in words,
    "worker": lambda words: "worker" in words and "start" in words,
    "promote": lambda words: "commands.promote" in words,
}
"""How the command of a process tells what it is."""


def processes(what: str, root: Path) -> list[psutil.Process]:
    """Return the processes of a kind that work in a folder."""
    matching = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()) == root and MARKS[what](process.cmdline()):
                matching.append(process)
    return matching


def alive(process: psutil.Process) -> bool:
    """Return whether a process runs; one that ended and that nobody waits for does not."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


@contextmanager
def counted_trainers(root: Path) -> Iterator[Callable[[], int]]:
    """Yield what returns how many processes at most, while the block lasts, trained at once: had a history open.

    A trainer's child has it open, and the trainer's command, until it becomes the program that it is to run.
    """
    done, most = threading.Event(), 0

    def count() -> None:
        nonlocal most
        while not done.wait(0.2):
            trainers = dict[int, int]()
            for process in processes("trainer", root):
                with suppress(psutil.Error):
                    if any(file.path.endswith("history.csv") for file in process.open_files()):
                        trainers[process.pid] = process.ppid()
            most = max(most, len(trainers.keys() - {pid for pid, parent in trainers.items() if parent in trainers}))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield lambda: most
    finally:
        done.set()
        thread.join()
