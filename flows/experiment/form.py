"""The parameters of `gan-training` as Prefect has them; `python -m mlops.parameters.form` writes `form.json`."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import WithJsonSchema

FORM: dict[str, Any] = json.loads(Path(__file__).with_name("form.json").read_text(encoding="utf-8"))


def _with_single_keys(overrides: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that also takes `section.key`, which is shorter to type; the page draws sections alone.

    Of a schedule it takes one part, as `train.generator_learning_rate.start`.
    """
    keys = {
        rf"{section}\.{key}": content
        for section, schema in overrides["properties"].items()
        for key, content in schema["anyOf"][1]["properties"].items()
    }
    parts = {
        rf"{key}\.{name}": part
        for key, content in keys.items()
        for choice in content.get("anyOf", ())
        for name, part in choice.get("properties", {}).items()
    }
    single = {f"^{key}$": content for key, content in (keys | parts).items()}
    unknown = {"enum": ["a key of params.yaml"]}  # the words that a refusal ends with
    return overrides | {"patternProperties": single, "additionalProperties": unknown}


PARAMS = "params.yaml"
"""The choice of no preset."""
Preset = Annotated[str, WithJsonSchema(FORM["preset"])]
OVERRIDES = _with_single_keys(FORM["overrides"])
Overrides = Annotated[dict[str, Any], WithJsonSchema(OVERRIDES)]
"""Values by section and key, or by `section.key`."""
NONE: dict[str, Any] = {}
"""No overrides: the page's validation takes null for a value."""
