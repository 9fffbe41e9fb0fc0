"""`python -m commands.preset NAME [DATA]`: apply a named patch to `params.yaml`; `git diff` shows it."""

import re
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from ruamel.yaml import YAML

from mlops.project import params
from mlops.project.errors import UserError, command_line
from mlops.project.identity import project_root
from mlops.safety.user_files import check_sources

PRESETS = Path("presets")
EXAMPLES = """\b
Examples:
  python -m commands.preset mnist-dcgan
  python -m commands.preset images-32 ~/pictures
"""


def apply_preset(name: str, data: str | None = None) -> None:
    """Write the values of `presets/NAME.yaml` into `params.yaml`, whose comments and other values stay as they are.

    `data` becomes `data.path`; None keeps that of the preset. If there is no such preset or the result is not valid,
    that is a UserError, and `params.yaml` is as it was.
    """
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in names:
        raise UserError(f"there is no preset {name}; choose one of presets/: {', '.join(names)}")
    yaml = YAML()
    yaml.width = 120
    yaml.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    values = yaml.load(params.PARAMS.read_text(encoding="utf-8"))
    _patch(values, yaml.load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8")))
    if data is not None:
        values["data"]["path"] = data
        if not (project_root() / data).expanduser().exists():
            raise UserError(f"there is no {data}; name a folder, zip or tar of images")
    check_sources(values)
    dumped = StringIO()
    yaml.dump(values, dumped)
    # An empty line before each section, none within: ruamel.yaml keeps them with the key above, which may have moved.
    text = re.sub(r"\n+( *)(?=\w+:)", lambda key: ("\n" if key[1] else "\n\n") + key[1], dumped.getvalue())
    with TemporaryDirectory() as folder:
        candidate = Path(folder) / params.PARAMS.name
        candidate.write_text(text, encoding="utf-8")
        try:
            params.load(candidate)
        except UserError as error:
            raise UserError(str(error).replace(str(candidate), f"{params.PARAMS} with the preset {name}")) from None
    params.PARAMS.write_text(text, encoding="utf-8")
    print(f"params.yaml now has the preset {name}: see `git diff params.yaml`; `make run` or `dvc repro` runs it")


def _patch(values: dict[str, Any], patch: dict[str, Any]) -> None:
    """Merge a patch into values; a section with a family is replaced, because another family has other keys."""
    for key, value in patch.items():
        if isinstance(value, dict):
            section = values.setdefault(key, {})
            for other in section.keys() - value.keys() if "family" in value else ():
                del section[other]
            _patch(section, value)
        else:
            values[key] = value


@click.command(epilog=EXAMPLES)
@click.argument("name")
@click.argument("data", required=False)
@command_line()
def main(name: str, data: str | None) -> None:
    """Apply the preset NAME of presets/ to params.yaml; DATA becomes data.path."""
    apply_preset(name, data)


if __name__ == "__main__":
    main()
