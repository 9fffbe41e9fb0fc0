import copy
import re
from typing import Any

import pytest

from mlops.scoring.passport import PassportError, differences, passport_sha256, require_same

PASSPORT: dict[str, Any] = {
    "extractor": {"name": "digits", "sha256": "ab"},
    "resizer": "none",
    "reference": {"split": "train", "dvc_md5": "12.dir", "images": 7},
    "settings": {"banks": 3, "parzen": False},
    "parzen": None,
}


def leaves(content: dict[str, Any], before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, value in content.items():
        found += leaves(value, (*before, name)) if isinstance(value, dict) else [(*before, name)]
    return found


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    other = copy.deepcopy(PASSPORT)
    place = other
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return other


@pytest.mark.parametrize("path", leaves(PASSPORT), ids=".".join)
def test_any_field_that_differs_is_named_with_both_values(path: tuple[str, ...]) -> None:
    other = changed(path, "another")
    (line,) = differences(PASSPORT, other)
    assert line.startswith(f"{'.'.join(path)}: ")
    assert line.endswith("and another")
    with pytest.raises(PassportError, match=rf"of one and two .*\n  {re.escape(line)}\n.*dvc repro evaluate"):
        require_same(PASSPORT, other, ("one", "two"))
    assert passport_sha256(other) != passport_sha256(PASSPORT)


def test_a_field_that_one_lacks_is_a_difference() -> None:
    other = {name: value for name, value in PASSPORT.items() if name != "reference"}
    assert len(differences(PASSPORT, other)) == 1
    assert len(differences(other, PASSPORT)) == 1


def test_the_same_passport_is_the_same_in_any_order() -> None:
    turned = {name: PASSPORT[name] for name in reversed(PASSPORT)}
    require_same(PASSPORT, turned, ("one", "two"))
    assert passport_sha256(turned) == passport_sha256(PASSPORT)
