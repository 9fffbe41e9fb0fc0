"""All access to MLflow: runs, versions, aliases, descriptions, and the model that it serves."""

import atexit
import logging
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

# MLflow reads these when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
# A lost server is reported within seconds, and training goes on without it; the default tries for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")  # a server may ask for an hour
# It logs a traceback of each error of its database, which it raises as well, and we print.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
# An empty variable names no store, as an unset one; MLflow takes it for an address.
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
    if not os.environ.get(name, "").strip():
        os.environ.pop(name, None)
# Servers on this machine are not reached through a proxy, which would ask another machine for them.
hosts = [host.strip() for name in ("no_proxy", "NO_PROXY") for host in os.environ.get(name, "").split(",")]
if "*" not in hosts:
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(dict.fromkeys([*filter(None, hosts), "127.0.0.1", "localhost", "::1"]))
# MLflow does not find its tables' migrations below a folder with %, so there it is imported through a link.
if "%" in sysconfig.get_path("purelib"):
    _links = Path(tempfile.mkdtemp(prefix="mlflow-"))
    atexit.register(shutil.rmtree, _links, ignore_errors=True)
    (_links / "packages").symlink_to(sysconfig.get_path("purelib"))
    sys.path.insert(0, str(_links / "packages"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (sys.path[0], os.environ.get("PYTHONPATH"))))
