"""Reads a YAML file that may come from anybody: bounded in size, depth and what its aliases expand to."""

import json
import math
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML  # reads 2e-4 as a number, as DVC does; PyYAML reads a word
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

from mlops.project.errors import UserError

LARGEST_FILE = 200_000
"""Bytes; `params.yaml` has 7,000."""
DEEPEST, MOST_VALUES = 10, 10_000
"""Levels and values, those behind each alias counted again; `params.yaml` has 3 and 120."""
LARGEST_INTEGER = 2**63 - 1
"""Of numpy and torch."""
Pairs = Iterator[tuple[str, Any]]


def read_yaml(path: Path) -> str:
    """Return the content of a file as JSON: mappings, lists, words, finite numbers, true, false and null.

    It is a UserError if the file is missing, no ordinary file, no UTF-8, too large, too deep, no YAML, or holds
    anything else.
    """
    text = _text(path)
    try:
        for number, depth in enumerate(_depths(text)):  # before the loader would take minutes, or all of the stack
            if depth > DEEPEST + 1:
                raise UserError(f"{path} is more than {DEEPEST} levels deep; correct it, or restore it with git")
            if number > 3 * MOST_VALUES:  # keys, values and ends
                raise UserError(f"{path} has more than {MOST_VALUES:,} values; remove some")
        content = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML: {error}; correct it, or restore it with git") from None
    values = list(islice(_values(content, "", 0), MOST_VALUES + 1))
    if len(values) > MOST_VALUES:
        raise UserError(f"{path} has more than {MOST_VALUES:,} values, aliases included; remove some")
    for key, value in values:
        if problem := _problem(value, key.count(".")):
            raise UserError(f"{path}: {key or 'the file'} {problem}; correct it, or restore it with git")
    return json.dumps(content)


def _text(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise UserError(f"{path} is not an ordinary file; remove it, and restore it with git")
        if status.st_size > LARGEST_FILE:
            raise UserError(f"{path} has {status.st_size:,} bytes, more than {LARGEST_FILE:,}; restore it with git")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run from the project's root or restore it with git") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8, at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _depths(text: str) -> Iterator[int]:
    """Yield how deep in mappings and lists a text is behind each of its keys, values, beginnings and ends."""
    depth = 0
    for event in YAML(typ="safe").parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        yield depth


def _values(content: Any, key: str, depth: int) -> Pairs:
    """Yield every value with its dotted key, a mapping before its values; none below the deepest level."""
    yield key, content
    if depth > DEEPEST:
        return
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in pairs:
        if not isinstance(name, str | int):
            yield f"{key}.{name}".strip("."), name  # is no word
        yield from _values(value, f"{key}.{name}".strip("."), depth + 1)


def _problem(value: Any, dots: int) -> str | None:
    """Return what is wrong with a value or key, if anything."""
    match value:
        case dict() | list() if dots >= DEEPEST:
            return f"is more than {DEEPEST} levels deep"
        case float() if not math.isfinite(value):
            return f"must be a finite number, got {value}"
        case int() if abs(value) > LARGEST_INTEGER:
            return f"must be a number of at most {LARGEST_INTEGER:,}"
        case str() if any("\ud800" <= character <= "\udfff" for character in value):
            return f"has half of a character, {value!r:.50}"
        case None | bool() | int() | float() | str() | dict() | list():
            return None
    return f"must be a number, word or list, got {value!r:.50}"
