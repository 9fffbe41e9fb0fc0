"""`python -m mlops.parameters.asked`: write `params.yaml` as a run is asked to have it, by JSON on stdin."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

from mlops.project.errors import UserError, command_line
from mlops.project.identity import project_root
from mlops.project.params import PARAMS, DataConfig, Params
from mlops.project.presets import TAGS, Values, dumped, values_of, with_preset
from mlops.safety.user_files import check_sources

PUBLISHED = tuple(name for name in get_args(get_type_hints(DataConfig)["name"]) if name != "folder")


def asked(preset: str, data: str, overrides: Mapping[str, Any]) -> str:
    """Return the text of `params.yaml` with what is asked for; if that is not valid, it is a UserError of one line.

    Args:
        preset: a file of presets/ without its ending, or `params.yaml`, which is that of the working directory.
        data: the name of published data, or the path of a person's own, relative to the project's root; empty: those
            of the preset.
        overrides: values by section and key, or by `section.key`; a section that is null is as the preset has it. Of a
            schedule, `section.key.part` is one part.

    Returns:
        The text.

    Raises:
        UserError: as above.
    """
    source = {"name": data, "path": None} if data in PUBLISHED else {"path": data} if data else {}
    if preset == PARAMS.name:
        values = values_of(PARAMS)
        values["data"] |= source
    else:
        values = with_preset(preset, source.get("path"), {"data": source} if source else None)
    path = values["data"]["path"]
    if path and values["data"]["name"] == "digits":  # which come with scikit-learn, not from a place
        values["data"]["name"] = "folder"
    if path and not (project_root() / path).expanduser().exists():
        raise UserError(
            f"data: there is no {path}; name one of {', '.join(PUBLISHED)}, or a folder, zip or tar of images"
        )
    for section, key, value in _single(overrides):
        _set(values, section, key, value)
    check_sources(values)
    try:
        return dumped(values, "parameters")
    except UserError as error:
        raise UserError("; ".join(str(error).splitlines()).replace(" (see `git diff parameters`)", "")) from None


def _single(overrides: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield section, key and value; the key that names the member of a union comes before the member's others."""
    for name, content in overrides.items():
        section, _, key = name.partition(".")
        inner = {key: content} if key else content or {}
        if not isinstance(inner, Mapping):
            raise UserError(f"parameters: {name} is a section, got {content!r}; write {name}.KEY, or a value by key")
        for one in sorted(inner, key=lambda name: name != TAGS.get(section)):
            yield section, one, inner[one]


def _set(values: Values, section: str, key: str, value: Any) -> None:
    """Set a value; keys that a newly chosen member of a union does not have go."""
    if section not in values:
        raise UserError(f"parameters: unknown section {section}; choose one of {', '.join(values)}")
    key, _, part = key.partition(".")
    if part:
        if not isinstance(values[section].get(key), Mapping):
            raise UserError(f"parameters: {section}.{key} is no schedule, so it has no {part}; give it as a whole")
        value = {**values[section][key], part: value}
    values[section][key] = value
    if TAGS.get(section) == key:
        members = get_args(get_type_hints(Params)[section])
        kept = {name for kind in members if value in get_args((hints := get_type_hints(kind))[key]) for name in hints}
        for other in [name for name in values[section] if kept and name not in kept]:
            del values[section][other]


def main() -> None:
    """Write `params.yaml` of the working directory."""
    text = asked(**json.loads(sys.stdin.read()))
    PARAMS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with command_line():
        main()
