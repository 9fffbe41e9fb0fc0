import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mlops.project.errors import UserError
from mlops.project.yaml_file import DEEPEST, MOST_VALUES, read_yaml

BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "latin-1": "a: \xe9".encode("latin-1"),
    "utf-16": "a: 1".encode("utf-16"),
    "a NUL": b"a: 1\0",
    "an alias of itself": b"a: &a [*a]",
    "an alias bomb": BOMB.encode(),
    "deep": b"a: " + b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
    "deeper than Python": b"a: " + b"[" * 2000 + b"]" * 2000,
    "deeper than a stack": b"a: " + b"[{a: " * 50_000,
    "half of a character": b'a: "\\ud800"',
    "many": b"a: [" + b"1," * MOST_VALUES + b"]",
    "too many to load": b"a: [" + b"1," * 90_000 + b"]",
    "infinite": b"a: .inf",
    "infinite as a power": b"a: 1e400",
    "no number": b"a: .nan",
    "beyond 64 bits": b"a: 1" + b"0" * 400,
    "beyond Python": b"a: 1" + b"0" * 5000,
    "a date": b"a: 2026-11-26",
    "bytes": b"a: !!binary aGVsbG8=",
    "a set": b"a: !!set {b, c}",
    "an object": b"a: !!python/object/apply:os.system [exit]",
    "a list as a key": b"? [a, b]\n: 1",
    "two of a key": b"a: 1\na: 2",
    "two documents": b"a: 1\n---\nb: 2",
    "no mapping's end": b"a: {b: 1",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_plain_yaml_is_one_error_that_names_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(UserError, match=r"params\.yaml"):
        read_yaml(path)


def test_only_an_ordinary_file_is_read(tmp_path: Path) -> None:
    pipe, folder, device = tmp_path / "pipe", tmp_path / "folder", tmp_path / "device"
    os.mkfifo(pipe)
    folder.mkdir()
    device.symlink_to("/dev/zero")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(10**12)
    for path in (pipe, folder, device, large, tmp_path / "missing", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=path.name[:10]):
            read_yaml(path)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), inner),
    max_leaves=20,
)


@given(content=st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), plain, max_size=4))
def test_what_json_can_say_is_read_as_it_was_written(
    content: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("yaml") / "params.yaml"
    YAML(typ="safe").dump(content, path)
    assert json.loads(read_yaml(path)) == content
