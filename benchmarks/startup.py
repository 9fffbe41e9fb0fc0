"""What stages and commands cost before they work, beside the plain import of the libraries that they use.

`python -m stages NAME` without paths loads and checks `params.yaml`, imports the stage's module, finds its function and
then says how many paths it takes: all that a stage does before its work begins, and nothing of the work. Other commands
are started so that they stop as soon as they have read their arguments. About 6 minutes on two cores.
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
"""What reads and checks params.yaml; pydantic's own name alone imports next to nothing."""
LINEAGE = "subprocess importlib.metadata hashlib"
DOWNLOAD = f"{LINEAGE} rich.progress urllib.request"
ARCHIVES = "tarfile zipfile gzip bz2 lzma"
LIBRARIES = {
    "fetch": f"{PARAMS} {DOWNLOAD} {ARCHIVES}",
    "prepare": f"{PARAMS} rich.progress pandas PIL.Image {ARCHIVES}",
    "extractor": f"{PARAMS} {DOWNLOAD} torch torch_fidelity safetensors.torch",
    "train": f"{PARAMS} rich.progress torch safetensors.torch mlflow PIL.Image",
    "replicate": f"{PARAMS} rich.progress torch safetensors.torch",
    "diagnose": f"{PARAMS} matplotlib.figure",
    "evaluate": f"{PARAMS} {DOWNLOAD} torch torch_fidelity safetensors.torch pandas scipy.stats PIL.Image",
    "register": f"{PARAMS} rich.progress mlflow scipy.stats PIL.Image",
}
COMMANDS = {
    "-m commands.preset none": (f"{PARAMS} click", "there is no preset none"),
    "-m commands.generate --help": (f"{PARAMS} rich.progress click torch mlflow.pyfunc PIL.Image", "Usage:"),
    "-m commands.compare --help": (f"{PARAMS} click mlflow scipy.stats", "Usage:"),
    "-m commands.promote --help": (f"{PARAMS} click mlflow", "Usage:"),
    "-m commands.rebuild a b c": (f"{PARAMS} click mlflow", "Usage:"),
    "-m experiments.densities.densities": (f"{PARAMS} rich.progress torch", "takes PARAMS RESULTS METRICS"),
    "-m experiments.densities.density_pictures": ("matplotlib.figure", "takes RESULTS PICTURES"),
    "-c 'import flows.training'": ("prefect.main prefect.artifacts prefect.cache_policies prefect.runtime yaml", ""),
}
"""Everything else that README and guide let a user type; what it uses, and what it says before any work."""


def both(command: str, libraries: str, says: str) -> Times:
    """Return the times of a command and of a process that only imports its libraries."""
    run = partial(seconds, folder=ROOT, environment=environment(MLFLOW_DISABLE_TELEMETRY="true"))
    started, imports = [sys.executable, *shlex.split(command)], f"import {', '.join(libraries.split())}"
    ways = {"start": lambda: run(started, says=says), "import": lambda: run([sys.executable, "-c", imports])}
    return in_turns(command, ways, ROUNDS)


def table(only: str = "") -> Table:
    """Measure every stage and every other command; or those whose name has a word in it."""
    starts = {f"-m stages {name}": (LIBRARIES[name], f"stage {name} takes") for name in STAGES} | COMMANDS
    rows = []
    for command, (libraries, says) in starts.items():
        if only in command:
            times = both(command, libraries, says)
            start, plain = (f"{median(times[way]):.2f}" for way in ("start", "import"))
            names = ", ".join(dict.fromkeys(name.split(".")[0] for name in libraries.split()))
            rows.append((f"python {command}", start, plain, f"{ratio(times, 'start', 'import'):.2f}", names))
    words = (
        f"Whole processes from start to end, medians of {ROUNDS} rounds, the ratio within each round. A stage is "
        "started without paths: it checks params.yaml, imports its module and stops where its work would begin. The "
        "other process only imports the libraries that the stage uses. What is left is this project's own: its "
        "modules, and the check of params.yaml."
    )
    columns = ("command", "start, s", "import, s", "ratio", "libraries")
    return Table("start-up of every command", columns, tuple(rows), words)
