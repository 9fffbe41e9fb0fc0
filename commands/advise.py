"""`python -m commands.advise [DATA]`: what the data are, which settings fit, how long it takes, how much disk."""

import os
import subprocess
import sys
from pathlib import Path

import click

from mlops.project.errors import command_line
from mlops.safety.pipelines import MAIN, PARAMS, load_yaml, nothing_to_do, stage_outputs

EXAMPLES = """\b
Examples:
  python -m commands.advise
  python -m commands.advise ~/pictures
"""


@click.command(epilog=EXAMPLES)
@click.argument("data", required=False)
@click.option("--before-training", is_flag=True, help="Take the images as prepared; print nothing if `train` is done.")
@command_line()
def main(data: str | None, before_training: bool) -> None:
    """Look at images and machine before a training.

    DATA is a folder, zip or tar of images, for which a preset and its settings are found; nothing is changed. Without
    it, `dvc repro prepare` runs, and the advice is on `params.yaml` as it is.
    """
    if before_training:
        if nothing_to_do(MAIN, load_yaml(PARAMS), only="train"):
            return
    elif data is None:
        command = [sys.executable, "-m", "dvc", "repro", "--quiet", "prepare"]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # DVC's shell must find this Python
        if status := subprocess.run(command, env=os.environ | {"PATH": path}, check=False).returncode:
            sys.exit(status)  # DVC has printed why
    from mlops.advice.advice import advice, advised  # only here: torch takes two seconds to import

    (prepared,) = stage_outputs(MAIN)["prepare"]
    (advice(prepared) if data is None else advised(data)).show()


if __name__ == "__main__":
    main()
