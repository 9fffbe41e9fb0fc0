"""What can be known before work starts, checked at the start of every run of a pipeline."""

import json
import sys

from mlops.project.errors import UserError
from mlops.project.identity import located
from mlops.project.yaml_file import read_yaml
from mlops.safety.pipelines import MAIN, PARAMS, load_yaml, nothing_to_do
from mlops.safety.user_files import SOURCES, check_outputs, check_sources
from mlops.tracking.store import check_store


def preflight() -> None:
    """Raise a UserError for what would harm a person's files, or would fail after minutes of work.

    What takes longer than reading some small files is left out if neither parameters nor code have changed.
    """
    content = json.loads(read_yaml(PARAMS)) if PARAMS.exists() else {}
    values = content if isinstance(content, dict) else {}  # which `load` below explains
    check_sources(values)
    check_outputs(MAIN)
    if nothing_to_do(MAIN, values):
        _check_data(values.get("data", {}))
        return
    from mlops.project.params import load  # only here: pydantic takes longer to import than all the rest

    load()
    _check_data(values["data"])
    _check_weights(values)
    check_store()


def _check_data(section: dict[str, str | None]) -> None:
    """Refuse a path of images that are not there; those of which DVC has what `fetch` made may be elsewhere."""
    fetched = load_yaml(MAIN.with_suffix(".lock")).get("stages", {}).get("fetch", {}).get("params", {})
    path, named = section.get("path"), f"{PARAMS}: data.path"
    if path is None or (place := located(path, named)).exists():
        return
    missing = f"{named}: {path} does not exist (that is {place})"
    if fetched.get(PARAMS.name, {}).get("data") != section:
        raise UserError(f"{missing}; correct it")
    print(f"warning: {missing}; the images that were fetched from there are used", file=sys.stderr)


def _check_weights(values: dict[str, dict[str, str | None]]) -> None:
    section, key = SOURCES[1]
    path = values[section][key]
    named = f"{PARAMS}: {section}.{key}"
    if path is not None and not located(path, named).is_file():
        raise UserError(f"{named}: {path} does not exist; correct it, or set it to null")
