"""`python -m flows.worker`: apply `prefect.yaml` to the server of PREFECT_API_URL, by default `make ui`'s, and work."""

import os
import subprocess
import sys

from flows.environment import check_pipeline, check_server

POOL = ("local", "--type", "process")

if __name__ == "__main__":
    os.environ["PREFECT_API_URL"] = os.environ.get("PREFECT_API_URL") or "http://127.0.0.1:4200/api"
    check_server()
    check_pipeline()
    prefect = (sys.executable, "-m", "prefect", "--no-prompt")
    for arguments in (("work-pool", "create", *POOL, "--overwrite"), ("deploy", "--all")):
        if status := subprocess.run([*prefect, *arguments], check=False).returncode:
            sys.exit(status)
    worker = (*prefect, "worker", "start", "--pool", *POOL)
    os.execv(sys.executable, worker)  # this process becomes the worker, so that signals reach it
