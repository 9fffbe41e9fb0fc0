"""What cuts a project's processes off the network and takes pickle from them."""

from pathlib import Path

# Every Python process imports this first; an audit hook runs at each use of a socket and cannot be removed.
CUT = """
import errno, socket, sys

LOOPBACK = {"127.0.0.1", "::1", "localhost", "", None}

def cut(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        there, address = arguments[0].family in (socket.AF_INET, socket.AF_INET6), arguments[1]
        host = address[0] if there and address else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    if (host.decode() if isinstance(host, bytes) else host) not in LOOPBACK:
        raise OSError(errno.ENETUNREACH, f"the network is cut off: {event} {host}")

sys.addaudithook(cut)
"""
PROXIES = [f"{kind}_proxy" for kind in ("http", "https", "all")]


def offline(root: Path, hook: Path) -> dict[str, str]:
    """Return variables with which the processes of a project reach nothing but this machine and unpickle no model.

    Args:
        root: of the project, whose MLflow a process finds even if nothing of the project runs in it.
        hook: new folder for the module that every Python process imports first.
    """
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(CUT)
    return {
        "PYTHONPATH": str(hook),
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/.mlflow/mlflow.db",
    } | {name: "" for proxy in PROXIES for name in (proxy, proxy.upper())}
