"""One rank: a process of a stage that torchrun started, by `mlops.runs.launcher` or by hand on each of several nodes."""

import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from gan_core.runtime.device import pick_device
from gan_core.runtime.distributed import LostRankError, join_group, leave_group
from mlops.project.errors import UserError
from mlops.project.params import PARAMS, Params, check_together

MEETING = "EQUILIBRIUM_MEETING"
"""Variable that says where ranks of one machine meet; without it they meet as torchrun says."""
LOST = 75
"""Exit status of a rank that ends because another is gone: sysexits.h's `try again`."""
GRACE = 10
"""Seconds that a rank has to end after it is told to, also where it waits for one that is gone."""


def play_rank(stage: Callable[[Params], None], values: Params) -> None:
    """Run a stage as one of several ranks; rank 0 alone is heard, unless another has an error.

    Args:
        stage: what every rank runs, with the parameters of a rank.
        values: of params.yaml.
    """
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    _end_in_time(rank)
    try:
        values = _with_processes(values, world)
        with ExitStack() as quiet:
            if rank:
                nobody = quiet.enter_context(Path(os.devnull).open("w"))
                quiet.enter_context(redirect_stdout(nobody))
                quiet.enter_context(redirect_stderr(nobody))
            if world > 1:
                join_group(pick_device(values.compute), os.environ.get(MEETING, "env://"))
            stage(values)
        if world > 1:
            leave_group()
    except UserError as error:
        _tell(str(error))
        _exit(1)
    except LostRankError as error:
        _tell(f"rank {rank} of {world} lost another: {str(error).split('. ')[0]}")  # gloo goes on with advice
        _exit(LOST)
    except (SystemExit, KeyboardInterrupt) as error:
        _exit(130 if isinstance(error, KeyboardInterrupt) else int(error.code or 0))
    except Exception:
        traceback.print_exc()
        _exit(1)


def _with_processes(values: Params, world: int) -> Params:
    """Return the parameters with as many processes as there are ranks: by hand, torchrun is told, not params.yaml."""
    found = replace(values, execution=replace(values.execution, processes=world))
    check_together(PARAMS, found)
    return found


def _tell(message: str) -> None:
    """Leave a message to the launcher, which says it once, however many ranks have met the error."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        Path(path).write_text(json.dumps({"message": message, "timestamp": int(time.time())}))
    else:
        print(f"error: {message}", file=sys.stderr)


def _exit(status: int) -> NoReturn:
    """End now: closing what other ranks have left would wait for them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end_in_time(rank: int) -> None:
    """See to it that this process ends soon after its launcher, and after it is told to.

    A handler of Python's waits while torch waits for another rank, so a thread looks after both. Ranks without a run to
    close just end.
    """
    if rank:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    told, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    threading.Thread(target=_watch, args=(os.getppid(), told), daemon=True).start()


def _watch(launcher: int, told: int) -> None:
    while not select.select([told], [], [], 1.0)[0]:
        if os.getppid() != launcher:
            os.kill(os.getpid(), signal.SIGTERM)
    status = 128 + os.read(told, 1)[0]
    time.sleep(GRACE)
    os._exit(status)
