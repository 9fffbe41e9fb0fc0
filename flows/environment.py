"""What of the environment would stop a flow: put right, or an error before any work."""

import getpass
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

LOOPBACK = ("127.0.0.1", "localhost", "::1")
GIT_PLACES = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_GRAFT_FILE", "GIT_SHALLOW_FILE", "GIT_IMPLICIT_WORK_TREE"),
)
"""Where git finds another repository than that of the folder; a hook has them. `git rev-parse --local-env-vars`."""
COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "TTY_INTERACTIVE")
NO_COLOURS = {"NO_COLOR": "1", "TTY_COMPATIBLE": "0"}
ALONE = 6.0
"""Seconds in which a run without its worker stops its stage and tells the server; the stage ends without it as well."""
ANSWER = 10.0
"""Seconds within which Prefect's server has to answer."""


def settle() -> None:
    """Change this process's variables: loopback needs no proxy, git is that of the folder, and the user has a name.

    Prefect's temporary server is told to log nothing: it is stopped while it writes, and logs a traceback then.
    """
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    without = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if without.strip() != "*":
        hosts = [host for host in without.split(",") if host]
        hosts += [host for host in LOOPBACK if host not in hosts]
        # Either name is read by some program; the lower-case one wins.
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)
    for name in [*os.environ]:
        if name in GIT_PLACES or (name.lower().endswith("_proxy") and not _usable(os.environ[name])):
            del os.environ[name]
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container: DVC asks for one
        os.environ["LOGNAME"] = str(os.getuid())


def end_with_worker() -> None:
    """Let the process of a deployed run end after its worker: as by a cancellation, and if that takes long, at once."""
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(worker: int) -> None:
    while os.getppid() == worker:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ALONE)
    os._exit(128 + signal.SIGTERM)


def _usable(proxy: str) -> bool:
    """Return whether Prefect's HTTP client starts with this proxy; others stop it even if it needs none."""
    kind, found, _ = proxy.partition("://")
    return (
        not found or kind in ("http", "https") or (kind in ("socks5", "socks5h") and find_spec("socksio") is not None)
    )


def of_children() -> dict[str, str]:
    """Return the variables of a process whose output is read.

    This Python comes first, nothing has colours, and stages and commands end with this process.
    """
    kept = {name: value for name, value in os.environ.items() if name not in COLOURS} | NO_COLOURS
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return kept | {"PATH": path, "EQUILIBRIUM_PARENTS": str(os.getpid())}


def completed(*command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, with more variables; its output and errors are one text."""
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=of_children() | variables,
        check=False,
    )


def check_server() -> None:
    """End this process with an error if there is a PREFECT_API_URL whose server does not answer or refuses us."""
    from prefect.client.orchestration import get_client  # Prefect is to be imported after `settle`
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    address = PREFECT_API_URL.value()
    if not address:
        return
    once = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0})
    try:
        with once, get_client(sync_client=True, httpx_settings={"timeout": ANSWER}) as client:
            client.api_version()  # the health check asks for no log-in
    except Exception as error:  # of many libraries
        reason = str(error).partition("\n")[0] or type(error).__name__
        if "401 Unauthorized" in reason:
            sys.exit(
                f"error: Prefect's server refuses the log-in: PREFECT_API_URL={address}; set PREFECT_API_AUTH_STRING "
                "to NAME:PASSWORD of that server"
            )
        sys.exit(
            f"error: Prefect's server does not answer: PREFECT_API_URL={address}: {reason}; start `make ui`, name "
            "another address, or unset PREFECT_API_URL"
        )
