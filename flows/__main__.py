"""`python -m flows`: run `gan-training` once, on the server that PREFECT_API_URL names, or without one.

Without one, and with nothing to do, no flow runs: Prefect's temporary server takes five times as long to start.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from uuid import UUID

from flows.environment import check_server
from flows.experiment.dvc import Dvc, checked, start_check

CHECK = start_check() if __name__ == "__main__" else None
"""DVC is asked while Prefect is imported, which takes a second."""

from prefect import State
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled

from flows.display import Display
from flows.experiment.status import CHECKED
from flows.output import PROGRESS
from flows.stage import RUNNING, end_group
from flows.training import gan_training, is_remote, stage_names

LAST_LINE = 2.0
"""Seconds in which the flow reads what a stage has printed at its end."""
TOLD = 2.0
"""Seconds within which a server has to take the last state of a run that is stopped."""
STARTED: list[UUID] = []
"""The flow run of this process, once it runs."""


GUARD = """
import contextlib, os, signal, sys
for number in sys.stdin.read().split():
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(number), signal.SIGKILL)
"""
"""What ends the processes that are written to it as soon as its pipe is closed."""


class _Signal(BaseException):
    """A signal that ends this process."""


def main() -> None:
    """Run the flow, and show it; Ctrl-C, SIGTERM and SIGHUP end it with what it has started."""
    with Display() as display:
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, _raise)
            dvc, todo = _check()
            first, *others = stage_names()
            if not todo & {*others} and not PREFECT_API_URL.value() and not is_remote():
                dvc.close()
                for name in (first, *others):
                    PROGRESS.info("", extra={"stage": name, "kind": "unchanged"})
                return
            CHECKED.append((dvc, todo))
            display.wait("Prefect starts")
            states: list[State] = []
            # Not in this thread, so that the flow goes on reading what a stage prints after a signal.
            noted = gan_training.with_options(on_running=[lambda flow, flow_run, state: STARTED.append(flow_run.id)])
            flow = threading.Thread(target=lambda: states.append(noted(return_state=True)), daemon=True)
            flow.start()
            _wait(flow)
        except _Signal as received:
            _stop(display, int(str(received)))
    if not states:
        sys.exit(1)  # the thread has printed why
    if not states[0].is_completed():
        sys.exit(f"error: {states[0].message}")


def _check() -> tuple[Dvc, set[str]]:
    """Return DVC and the stages that are not up to date; if project or server are not in order, end this process."""
    dvc = CHECK or start_check()
    try:
        check_server()
        return dvc, checked(dvc)
    except BaseException:
        dvc.close()
        raise


def _wait(flow: threading.Thread) -> None:
    """Wait for the flow; if this process is killed meanwhile, another one ends the temporary server."""
    guard = None
    while flow.is_alive():
        flow.join(0.5)
        if guard is None and (servers := _temporary_servers()):
            command = [sys.executable, "-c", GUARD]
            guard = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
            assert guard.stdin is not None
            guard.stdin.write(" ".join(map(str, servers)))
            guard.stdin.flush()
    if guard is not None:
        guard.kill()
        guard.wait()


def _temporary_servers() -> list[int]:
    """Return the ids of the servers that Prefect has started for this process and that run."""
    kind = getattr(sys.modules.get("prefect.server.api.server"), "SubprocessASGIServer", None)  # perhaps half imported
    started = [server.server_process for server in [*kind._instances.values()]] if kind else []
    return [process.pid for process in started if process is not None and process.poll() is None]


def _raise(number: int, _: object) -> None:
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise _Signal(number)


def _stop(display: Display, number: int) -> None:
    """End what runs, tell a lasting server, and end this process at once.

    Prefect would try for a minute to report the end to its temporary server, which the same Ctrl-C has ended.
    """
    display.stopping()
    for process in [*RUNNING]:
        end_group(process)
    end = time.monotonic() + LAST_LINE
    while RUNNING and time.monotonic() < end:
        time.sleep(0.02)
    display.stop("stopped; make run goes on from the last checkpoint")
    for server in _temporary_servers():
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)
    if PREFECT_API_URL.value() and STARTED:
        once = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0})
        # Of many libraries; without an answer the run ends on the server once its heartbeats are missed.
        with suppress(Exception), once, get_client(sync_client=True, httpx_settings={"timeout": TOLD}) as client:
            client.set_flow_run_state(STARTED[0], Cancelled(message="stopped; make run goes on"), force=True)
    os._exit(128 + number)


if __name__ == "__main__":
    main()
