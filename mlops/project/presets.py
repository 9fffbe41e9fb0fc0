"""Presets: the defaults, which are all of `params.yaml` with its comments, patched by a file of `presets/`."""

import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML

from mlops.project import params
from mlops.project.errors import UserError
from mlops.project.identity import located

PRESETS = Path("presets")
DEFAULTS = PRESETS / "digits.yaml"
"""What every preset starts from, and the preset of the default data."""
TAGS = {"network": "family", "augmentation": "kind"}
"""Sections that are unions, and the key that names the member."""
Values = dict[str, dict[str, Any]]


def defaults() -> Values:
    """Return the default values, which remember their comments."""
    return values_of(DEFAULTS)


def values_of(path: Path) -> Values:
    """Return the values of a file, which remember their comments."""
    values: Values = _yaml().load(path.read_text(encoding="utf-8"))
    return values


def with_preset(name: str, data: str | None = None, changes: Mapping[str, Any] | None = None) -> Values:
    """Return the defaults with the values of `presets/NAME.yaml`, `data` as `data.path`, and further changes.

    If there is no such preset, or no such path, or the preset is for own images and has none, that is a UserError.
    """
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in names:
        remedy = f"choose one of presets/ ({', '.join(names)}), or give images alone: make preset DATA=/a/folder"
        raise UserError(f"there is no preset {name}; {remedy}" if name else f"no preset is named; {remedy}")
    values = defaults()
    for changed in (_yaml().load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8")), changes or {}):
        patch(values, changed)
    if data is not None:
        values["data"]["path"] = data
        if not located(data, "DATA").exists():
            raise UserError(f"there is no {data}; name a folder, zip or tar of images")
    elif values["data"]["name"] == "folder":
        raise UserError(
            f"the preset {name} is for your own images; name them: make preset NAME={name} DATA=/a/folder, or as "
            "`data` of a run"
        )
    return values


def dumped(values: Values, source: str) -> str:
    """Return valid values as the text of `params.yaml`; if not valid, that is a UserError with their source."""
    text = StringIO()
    _yaml().dump(values, text)
    # An empty line before each section, none within: ruamel.yaml keeps them with the key above, which may have moved.
    lines = re.sub(r"\n+( *)(?=\w+:)", lambda key: ("\n" if key[1] else "\n\n") + key[1], text.getvalue())
    with TemporaryDirectory() as folder:
        candidate = Path(folder) / params.PARAMS.name
        candidate.write_text(lines, encoding="utf-8")
        try:
            params.load(candidate)
        except UserError as error:
            raise UserError(str(error).replace(str(candidate), source)) from None
    return lines


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 120
    yaml.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    return yaml


def patch(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Merge changes into values; a section whose member of a union is named is replaced: another has other keys."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(values.get(key, {}), Mapping):
            section = values.setdefault(key, {})
            for other in section.keys() - value.keys() if TAGS.get(key) in value else ():
                del section[other]
            patch(section, value)
        else:
            values[key] = value
