import json

import pytest

from mlops.images.layout import stylegan_labels
from mlops.images.layout.stylegan_labels import labels, labels_file
from mlops.project.errors import UserError


def labels_in(content: bytes) -> dict[str, int] | None:
    return labels("a/dataset.json", lambda name, most: content[:most], "here")


def test_labels_are_read_relative_to_the_file() -> None:
    assert labels_in(json.dumps({"labels": [["0/1.png", 6], ["2.png", 0]]}).encode()) == {"a/0/1.png": 6, "a/2.png": 0}
    assert labels_in(b'{"labels": null}') == labels_in(b'{"labels": []}') == {}


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"images": []}', b"3"])
def test_the_file_of_another_tool_is_none(content: bytes) -> None:
    assert labels_in(content) is None


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b'{"labels": [["1.png", 6]',
            b"\xff\xfe\x00",
            b"[" * 100_000,
            b'{"labels": [["1.png", ' + b"9" * 5000 + b"]]}",
        ),
        *(
            b'{"labels": [["1.png", %s]]}' % each
            for each in (b"true", b"1.5", b"-1", b"[0, 1]", b'"cat"', b"null", b"3000000000")
        ),
        *(
            b'{"labels": %s}' % each
            for each in (b"3", b'"ab"', b'{"1.png": 3}', b'["ab"]', b'[["1.png"]]', b"[[1, 2]]")
        ),
        b'{"labels": [["1.png", 6], ["1.png", 7]]}',
    ],
)
def test_damaged_and_other_labels_are_an_error_that_names_the_file(content: bytes) -> None:
    with pytest.raises(UserError, match=r"^here: a/dataset\.json .*; "):
        labels_in(content)


def test_the_file_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b'{"labels": null}'
    monkeypatch.setattr(stylegan_labels, "MOST_BYTES", len(content))
    assert labels_in(content) == {}
    with pytest.raises(UserError, match=r"a/dataset\.json .*16 bytes"):
        labels_in(content + b" ")


@pytest.mark.parametrize(
    ("names", "folders", "file"),
    [
        (["dataset.json"], ["", "0", "1"], "dataset.json"),
        (["a/dataset.json", "a/0/dataset.json"], ["a/0", "a/1"], "a/dataset.json"),
        (["a/dataset.json"], ["a", "ab"], None),
        (["my-dataset.json", "a/dataset.json.gz"], ["a"], None),
        (["a/b/dataset.json"], ["a", "a/b"], None),
    ],
)
def test_the_file_is_in_the_folder_that_holds_all_images(
    names: list[str], folders: list[str], file: str | None
) -> None:
    assert labels_file(names, folders) == file
