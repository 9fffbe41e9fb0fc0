"""What a score depends on. Scores under different passports are never compared."""

import hashlib
import json
from typing import Any

from mlops.project.errors import UserError


class PassportError(UserError):
    """Two scores depend on different things; the message names each of them."""


def passport_sha256(passport: dict[str, Any]) -> str:
    """Return the sha256 of a passport, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(passport, sort_keys=True).encode()).hexdigest()


def differences(first: Any, second: Any, field: str = "") -> list[str]:
    """Return what differs between two passports, one line a field: its dotted name and both values."""
    if isinstance(first, dict) and isinstance(second, dict):
        names = sorted(first.keys() | second.keys())
        parts = (
            differences(first.get(name, "nothing"), second.get(name, "nothing"), f"{field}.{name}" if field else name)
            for name in names
        )
        return [line for part in parts for line in part]
    return [] if first == second else [f"{field}: {first} and {second}"]


def require_same(first: dict[str, Any], second: dict[str, Any], names: tuple[str, str]) -> None:
    """Raise a PassportError, with the models' names and every field that differs, unless two passports are the same."""
    if lines := differences(first, second):
        shown = "\n".join(f"  {line}" for line in lines)
        raise PassportError(
            f"the scores of {names[0]} and {names[1]} are of different passports and cannot be compared:\n{shown}\n"
            "score both under the same params.yaml, data and code: dvc repro evaluate"
        )
