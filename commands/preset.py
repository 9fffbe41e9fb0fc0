"""`python -m commands.preset NAME [DATA]`: write the defaults, patched, into `params.yaml`; `git diff` shows it."""

import re
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlops.project import params
from mlops.project.errors import UserError, command_line
from mlops.project.identity import project_root
from mlops.safety.user_files import check_sources

PRESETS = Path("presets")
DEFAULTS = PRESETS / "digits.yaml"
"""All of `params.yaml` with its comments: what every preset starts from, and the preset of the default data."""
EXAMPLES = """\b
Examples:
  python -m commands.preset digits
  python -m commands.preset mnist-dcgan
  python -m commands.preset images-32 ~/pictures
"""


def apply_preset(name: str, data: str | None = None) -> None:
    """Write the defaults with the values of `presets/NAME.yaml` into `params.yaml`, whatever stood there.

    The defaults are `presets/digits.yaml`, which is all of `params.yaml` with its comments. `data` becomes `data.path`.
    A printed line names the values that are lost because the preset leaves them at their defaults. If there is no such
    preset or the result is not valid, that is a UserError, and `params.yaml` is as it was.
    """
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in names:
        raise UserError(f"there is no preset {name}; choose one of presets/: {', '.join(names)}")
    yaml = YAML()
    yaml.width = 120
    yaml.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    values = yaml.load(DEFAULTS.read_text(encoding="utf-8"))
    defaults = _flat(values)
    _patch(values, yaml.load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8")))
    _set_data(name, values, data)
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
    back = _back_at_defaults(defaults, _flat(values))
    params.PARAMS.write_text(text, encoding="utf-8")
    print(f"params.yaml now has the preset {name}: see `git diff params.yaml`; `make run` or `dvc repro` runs it")
    if back:
        print(f"back at their defaults, from which a preset starts: {', '.join(back)}")


def _set_data(name: str, values: dict[str, Any], data: str | None) -> None:
    """Set where the images are, and refuse a place that is not there or is ours."""
    if data is not None:
        values["data"]["path"] = data
        if not (project_root() / data).expanduser().exists():
            raise UserError(f"there is no {data}; name a folder, zip or tar of images")
    elif values["data"]["name"] == "folder":
        raise UserError(f"the preset {name} is for your own images; name them: make preset NAME={name} DATA=/a/folder")
    check_sources(values)


def _back_at_defaults(defaults: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what stands otherwise in `params.yaml` than its default, which it gets now, each as `key (was value)`."""
    if not params.PARAMS.exists():
        return []
    try:
        before = _flat(YAML(typ="safe").load(params.PARAMS.read_text(encoding="utf-8")))
    except (YAMLError, AttributeError):
        raise UserError(f"{params.PARAMS} is not valid YAML; correct it, or delete it for a new one") from None
    return [f"{key} (was {old})" for key, old in before.items() if old != now.get(key, old) == defaults.get(key)]


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values by `section.key`."""
    return {f"{section}.{key}": value for section, inner in values.items() for key, value in inner.items()}


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
    """Write the defaults with the preset NAME of presets/ into params.yaml; DATA becomes data.path."""
    apply_preset(name, data)


if __name__ == "__main__":
    main()
