"""One rank: a process of a stage, started by torchrun from `mlops.runs.launcher` or by hand on several nodes."""

import json
import os
import sys
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
"""Environment variable: where ranks of one machine meet; without it torchrun's own settings hold."""
LOST = 75
"""Exit status of a rank that ends because another is gone: EX_TEMPFAIL, `try again`, of sysexits.h."""


def run_rank(stage: Callable[[Params], None], values: Params) -> None:
    """Run a stage as one of several ranks, of which rank 0 alone prints; an error ends the process."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        values = _with_processes(values, world)
        with ExitStack() as quiet:
            if rank:
                nowhere = quiet.enter_context(Path(os.devnull).open("w"))
                quiet.enter_context(redirect_stdout(nowhere))
                quiet.enter_context(redirect_stderr(nowhere))
            if world > 1:
                join_group(pick_device(values.compute), os.environ.get(MEETING, "env://"))
            stage(values)
        if world > 1:
            leave_group()
    except UserError as error:
        _report(str(error))
        _exit(1)
    except LostRankError as error:
        _report(f"rank {rank} of {world} lost another: {str(error).split('. ')[0]}")  # gloo goes on with advice
        _exit(LOST)
    except (SystemExit, KeyboardInterrupt) as error:
        _exit(130 if isinstance(error, KeyboardInterrupt) else int(error.code or 0))
    except Exception:
        traceback.print_exc()
        _exit(1)


def _with_processes(values: Params, world: int) -> Params:
    """Return the parameters with as many processes as there are ranks, which torchrun may get by hand."""
    values = replace(values, execution=replace(values.execution, processes=world))
    check_together(PARAMS, values)
    return values


def _report(message: str) -> None:
    """Write a message for the launcher, which prints it once, however many ranks have met the error."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        Path(path).write_text(json.dumps({"message": message, "timestamp": int(time.time())}))
    else:
        print(f"error: {message}", file=sys.stderr)


def _exit(status: int) -> NoReturn:
    """End now: closing a group that other ranks have left would wait for them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
