"""The parameters as a form: a JSON schema with choices, ranges and help, from the classes that check `params.yaml`.

Prefect's page draws it, and Prefect's server refuses a run that does not fit it. Flows read it from a file, which
`python -m mlops.parameters.form` writes after a change of a class, a comment or a preset.
"""

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from mlops.project.params import PARAMS, Params
from mlops.project.presets import DEFAULTS, PRESETS, defaults
from mlops.project.result_files import save_json

FORM = Path("flows/experiment/form.json")
Schema = dict[str, Any]
NUMBERS = ("integer", "number")
FAR = 10**9
"""Beyond every range that has an end."""
FIRST = ("train", "network", "augmentation")
"""Sections that most runs differ in; the page shows them before the others."""
TINY = 1e-9
"""A number above an end that a range leaves out."""


def form() -> dict[str, Schema]:
    """Return the schemas of a run's parameters `preset` and `overrides`.

    Of `overrides` a section is left out, null, or has the keys that differ. Which values go together only
    `mlops.project.params.load` can check.
    """
    hints, values, (helps, titles) = get_type_hints(Params), defaults(), _comments()
    keys = {name: _keys(hints[name], values[name], helps.get(name, {})) for name in hints}
    names = [PARAMS.name, *sorted(path.stem for path in PRESETS.glob("*.yaml"))]
    return {
        "preset": {"type": "string", "enum": names},
        "overrides": {
            "type": "object",
            "properties": {
                name: _section(name, place, titles.get(name, ""), keys[name])
                for place, name in enumerate([*FIRST, *(name for name in keys if name not in FIRST)])
            },
            "additionalProperties": False,
        },
    }


def _section(name: str, place: int, title: str, keys: dict[str, Schema]) -> Schema:
    """Return a section that the page shows closed: null, its default, leaves all of it as it is."""
    content = {"type": "object", "title": "change", "properties": keys, "additionalProperties": False}
    help_text = {"description": title} if title else {}
    return {"title": name, "anyOf": [{"type": "null", "title": "keep"}, content], "position": place} | help_text


def _keys(union: Any, values: dict[str, Any], helps: dict[str, str]) -> dict[str, Schema]:
    """Return the schema of each key of a section; of a union those of all its members."""
    keys: dict[str, Schema] = {}
    for kind in get_args(union) or (union,):
        schema, config = TypeAdapter(kind).json_schema(), _example(kind, values)
        for key, value in schema["properties"].items():
            value = _inlined(value, schema.get("$defs", {}))
            for choice in value.get("anyOf", [value]):
                choice |= _limits(config, key, choice["type"]) if choice["type"] in NUMBERS else {}
                if choice["type"] == "boolean":  # drawn as a choice: a switch cannot be left as it is
                    choice |= {"enum": [True, False]}
                    del choice["type"]
            _merge(keys, key, value)
    for place, (key, value) in enumerate(keys.items()):
        value |= {"title": key, "position": place} | ({"description": helps[key]} if key in helps else {})
    return keys


def _merge(keys: dict[str, Schema], key: str, value: Schema) -> None:
    """Add a key that another member of the union may have, too: its choices come together."""
    if "const" in value:
        value = {"type": value["type"], "enum": [value["const"]]}
    before = keys.setdefault(key, value)
    if before.get("type") == value.get("type") and "enum" in before:
        before["enum"] = list(dict.fromkeys(before["enum"] + value["enum"]))
    elif before != value:
        keys[key] = {"anyOf": [before, value]}


def _inlined(schema: Any, definitions: dict[str, Schema]) -> Any:
    """Return a schema without references, required keys, and titles of classes."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _inlined(definitions[name], definitions) | {"title": name.lower()}
    content = {
        key: _inlined(value, definitions) for key, value in schema.items() if key not in ("title", "description")
    }
    if "properties" in content:
        content["properties"] = {name: {"title": name} | value for name, value in content["properties"].items()}
    return content


def _example(kind: Any, values: dict[str, Any]) -> Any:
    """Return an instance of a class: with the defaults, and what is likely for a key that these lack."""
    likely: dict[Any, Any] = {int: 1, float: 0.5, bool: True}

    def value(name: str, hint: Any) -> Any:
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        if choices:
            return values[name] if values.get(name) in choices else choices[0]
        return likely.get(hint, 0.5) if name not in values else values[name]

    plain = {name: value(name, hint) for name, hint in get_type_hints(kind).items()}
    return kind(**{name: 0.5 if isinstance(one, dict) else one for name, one in plain.items()})  # no schedules


def _limits(config: Any, key: str, kind: str) -> Schema:
    """Return the range of a number as JSON schema has it, by asking the class which numbers it refuses.

    Ranges of `gan_core.config` are checks in code. Each is an interval whose ends are 0 or 1 or, of integers, any.
    """

    def accepts(value: float) -> bool:
        with suppress(ValueError):
            replace(config, **{key: value})
            return True
        return False

    if kind == "integer":
        inside = int(getattr(config, key))
        low = None if accepts(-FAR) else _end(accepts, -FAR, inside)
        high = None if accepts(FAR) else _end(accepts, FAR, inside)
        return {name: end for name, end in (("minimum", low), ("maximum", high)) if end is not None}
    lows = [("minimum", 0, 0.0), ("exclusiveMinimum", 0, TINY), ("minimum", 1, 1.0), ("exclusiveMinimum", 1, 1 + TINY)]
    highs = [("maximum", 1, 1.0), ("exclusiveMaximum", 1, 1 - TINY)]
    low_ends = [] if accepts(-FAR) else [{name: end} for name, end, value in lows if accepts(value)][:1]
    high_ends = [] if accepts(FAR) else [{name: end} for name, end, value in highs if accepts(value)][:1]
    return {name: end for ends in (low_ends + high_ends) for name, end in ends.items()}


def _end(accepts: Any, outside: int, inside: int) -> int:
    """Return the last integer that is accepted, between one that is not and one that is."""
    while abs(outside - inside) > 1:
        middle = (outside + inside) // 2
        outside, inside = (outside, middle) if accepts(middle) else (middle, inside)
    return inside


def _comments() -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Return the comments behind keys, by section, and those behind sections, of the defaults."""
    helps: dict[str, dict[str, str]] = {}
    titles: dict[str, str] = {}
    section = ""
    for line in DEFAULTS.read_text(encoding="utf-8").splitlines():
        match = re.match(r"( *)(\w+):[^#]*(?:# (.*))?$", line)
        if match and not match[1]:
            section = match[2]
        if match and match[3]:
            (helps.setdefault(section, {}) if match[1] else titles)[match[2]] = match[3]
    return helps, titles


if __name__ == "__main__":
    save_json(FORM, form())
    print(f"{FORM} has the form of the present parameters; `make worker` applies it")
