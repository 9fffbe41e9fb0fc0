"""Start-up time of stages and commands, beside the plain import of the libraries that they use.

`python -m stages NAME` without paths loads and checks `params.yaml`, imports the stage's module, finds its function and
then reports how many paths it takes: all that a stage does before its work begins, and nothing of the work. Other
commands stop as soon as they have read their arguments. About 6 minutes on two cores.
"""

import shlex
import sys
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.harness.rounds import Times, in_turns, ratio, seconds
from benchmarks.harness.tables import Table
from stages.__main__ import STAGES
from tests.project import environment

ROOT = Path(__file__).parents[1]
ROUNDS = 5
PARAMS = "pydantic.dataclasses pydantic.type_adapter ruamel.yaml json inspect"
"""Libraries that read and check params.yaml; `import pydantic` alone loads little of it."""
LINEAGE = "subprocess importlib.metadata hashlib"
DOWNLOAD = f"{LINEAGE} rich.progress urllib.request"
ARCHIVES = "tarfile zipfile gzip bz2 lzma"
LIBRARIES = {
    "code": f"{PARAMS} ast hashlib",
    "fetch": f"{PARAMS} {DOWNLOAD} {ARCHIVES}",
    "prepare": f"{PARAMS} rich.progress pandas PIL.Image {ARCHIVES}",
    "extractor": f"{PARAMS} {DOWNLOAD} torch safetensors.torch",
    "train": f"{PARAMS} rich.progress torch safetensors.torch mlflow PIL.Image",
    "replicate": f"{PARAMS} rich.progress torch safetensors.torch",
    "choose": f"{PARAMS} rich.progress torch safetensors.torch scipy.special pandas matplotlib.figure",
    "diagnose": f"{PARAMS} torch safetensors.torch matplotlib.figure",
    "evaluate": f"{PARAMS} {DOWNLOAD} torch safetensors.torch pandas scipy.special PIL.Image",
    "register": f"{PARAMS} rich.progress mlflow scipy.special PIL.Image",
}
COMMANDS = {
    "-m commands.preset none": (f"{PARAMS} click", "there is no preset none"),
    "-m commands.generate --help": (f"{PARAMS} rich.progress click torch mlflow.pyfunc PIL.Image", "Usage:"),
    "-m commands.compare --help": (f"{PARAMS} click mlflow scipy.special", "Usage:"),
    "-m commands.promote --help": (f"{PARAMS} click mlflow", "Usage:"),
    "-m commands.rebuild a b c": (f"{PARAMS} click mlflow", "Usage:"),
    "-m experiments.densities densities": (f"{PARAMS} rich.progress torch", "stage densities takes"),
    "-m experiments.densities density_pictures": ("matplotlib.figure", "stage density_pictures takes"),
    "-c 'import flows.training'": ("prefect.main prefect.artifacts prefect.cache_policies prefect.runtime yaml", ""),
}
"""All other commands of README and docs: the libraries they use, and what they print before any work."""


def both(command: str, libraries: str, output: str) -> Times:
    """Return the times of a command and of a process that only imports its libraries."""
    run = partial(seconds, folder=ROOT, environment=environment(MLFLOW_DISABLE_TELEMETRY="true"))
    started, imports = [sys.executable, *shlex.split(command)], f"import {', '.join(libraries.split())}"
    ways = {"start": lambda: run(started, output=output), "import": lambda: run([sys.executable, "-c", imports])}
    return in_turns(command, ways, ROUNDS)


def table(only: str = "") -> Table:
    """Measure every stage and every other command, or those whose name contains `only`."""
    starts = {f"-m stages {name}": (LIBRARIES[name], f"stage {name} takes") for name in STAGES} | COMMANDS
    rows = []
    for command, (libraries, output) in starts.items():
        if only in command:
            times = both(command, libraries, output)
            start, plain = (f"{median(times[way]):.2f}" for way in ("start", "import"))
            names = ", ".join(dict.fromkeys(name.split(".")[0] for name in libraries.split()))
            rows.append((f"python {command}", start, plain, f"{ratio(times, 'start', 'import'):.2f}", names))
    words = (
        f"Whole processes from start to end, medians of {ROUNDS} rounds, the ratio within each round. A stage is "
        "started without paths: it checks params.yaml, imports its module and stops before its work. The other process "
        "only imports the libraries that the stage uses. The difference is the time of this project's own modules and "
        "of the check of params.yaml."
    )
    columns = ("command", "start, s", "import, s", "ratio", "libraries")
    return Table("start-up of every command", columns, tuple(rows), words)
