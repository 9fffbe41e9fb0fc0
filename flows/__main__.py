"""`python -m flows`: run `gan-training` once, on the server that PREFECT_API_URL names, or without one."""

import os
import signal
import sys

from flows.display import Display
from flows.environment import check_pipeline, check_server
from flows.experiment.status import CHECKED
from flows.stage import RUNNING, end_group
from flows.training import gan_training


def main() -> None:
    """Run the flow, and show it."""
    with Display() as display:

        def stop(*_: object) -> None:
            """End what runs and then this process at once.

            Prefect would try for a minute to report the end to its temporary server, which the same Ctrl-C has ended.
            """
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            display.stop("stopped; `make run` goes on from the last checkpoint")
            for process in RUNNING:
                end_group(process)
            if servers := sys.modules.get("prefect.server.api.server"):
                for server in [*servers.SubprocessASGIServer._instances.values()]:
                    server.stop()
            os._exit(130)

        signal.signal(signal.SIGINT, stop)
        check_server()
        CHECKED.append(check_pipeline())
        display.wait("Prefect starts")
        state = gan_training(return_state=True)
    if not state.is_completed():
        sys.exit(f"error: {state.message}")


if __name__ == "__main__":
    main()
