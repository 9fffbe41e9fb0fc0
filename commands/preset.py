"""`python -m commands.preset [NAME] [DATA]`: write the defaults, patched, into `params.yaml`; `git diff` shows it."""

from collections.abc import Mapping
from typing import Any

import click
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlops.project import params
from mlops.project.errors import UserError, command_line
from mlops.project.presets import Values, defaults, dumped, with_preset
from mlops.safety.pipelines import running
from mlops.safety.user_files import check_sources
from mlops.safety.written_files import write_whole

EXAMPLES = """\b
Examples:
  python -m commands.preset digits
  python -m commands.preset mnist-dcgan
  python -m commands.preset images-32 ~/pictures
  python -m commands.preset "" ~/pictures
"""


def apply_preset(name: str, data: str | None = None, changes: Mapping[str, Any] | None = None) -> None:
    """Write the defaults with the values of `presets/NAME.yaml` into `params.yaml`, whatever stood there.

    `data` becomes `data.path`, and `changes` are merged last. A printed line names the values that are lost because the
    preset leaves them at their defaults. If there is no such preset, the result is not valid, or a pipeline runs here,
    that is a UserError, and `params.yaml` is as it was.
    """
    if run := running():
        raise UserError(
            f"process {run[0]} runs `{run[1]}` here, and its later stages would take other values; wait for it, or "
            f"end it with `kill {run[0]}`"
        )
    values = with_preset(name, data, changes)
    check_sources(values)
    text = dumped(values, f"{params.PARAMS} with the preset {name}")
    back = _back_at_defaults(_flat(defaults()), _flat(values))
    write_whole(params.PARAMS, text)
    print(f"params.yaml now has the preset {name}: see `git diff params.yaml`; `make run` or `dvc repro` runs it")
    if back:
        print(f"back at their defaults, from which a preset starts: {', '.join(back)}")


def _back_at_defaults(default: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what stands otherwise in `params.yaml` than its default, which it gets now, each as `key (was value)`."""
    if not params.PARAMS.exists():
        return []
    try:
        before = _flat(YAML(typ="safe").load(params.PARAMS.read_text(encoding="utf-8")))
    except (YAMLError, AttributeError):
        raise UserError(f"{params.PARAMS} is not valid YAML; correct it, or delete it for a new one") from None
    return [f"{key} (was {old})" for key, old in before.items() if old != now.get(key, old) == default.get(key)]


def _flat(values: Values) -> dict[str, Any]:
    """Return the values by `section.key`."""
    return {f"{section}.{key}": value for section, inner in values.items() for key, value in inner.items()}


@click.command(epilog=EXAMPLES)
@click.argument("name")
@click.argument("data", required=False)
@command_line()
def main(name: str, data: str | None) -> None:
    """Write the defaults with the preset NAME of presets/ into params.yaml; DATA becomes data.path.

    With an empty NAME the preset and its settings are those that fit the data and this machine: `make advise`.
    """
    if name or data is None:
        apply_preset(name, data)
        return
    from mlops.advice.advice import advised  # only here: torch takes two seconds to import

    advice = advised(data)
    advice.show(is_taken=True)
    apply_preset(advice.preset, data, advice.changes)


if __name__ == "__main__":
    main()
