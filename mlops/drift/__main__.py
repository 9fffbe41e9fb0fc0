"""`python -m mlops.drift FORMER EXTRACTOR NEW`: what changed between prepared images, as JSON for a flow."""

import json
import sys
from pathlib import Path

import pandas as pd

from mlops.drift.changes import changes, table
from mlops.drift.training_images import measured, sentence
from mlops.project import params
from mlops.project.errors import UserError, command_line
from mlops.project.prepared_data import MANIFEST


def main(former: Path, extractor: Path, new: Path) -> None:
    """Print the changes in words and as a table, and the drift in words."""
    manifests = [pd.read_parquet(folder / MANIFEST) for folder in (former, new)]
    try:
        drift = sentence(measured(former, extractor, new, params.load().compute))
    except UserError as error:
        drift = f"not measured, for {error}"
    print(json.dumps({"changes": str(changes(*manifests)), "table": table(*manifests), "drift": drift}))


if __name__ == "__main__":
    with command_line():
        main(*map(Path, sys.argv[1:]))
