import os
from pathlib import Path

import pytest
import torch

from gan_core.runtime.tensor_files import load_tensors, save_tensors, write_atomically
from tests.gan_core.examples import same_bits


def test_tensors_and_metadata_survive_the_round_trip(tmp_path: Path) -> None:
    tensors = {
        "float": torch.tensor([0.1, -0.0, torch.inf]),
        "double": torch.tensor([0.1], dtype=torch.float64),
        "int": torch.tensor(2**40),
        "bytes": torch.arange(6, dtype=torch.uint8).reshape(2, 3).T,
        "weight": torch.nn.Parameter(torch.ones(2)),
    }
    metadata = {"b": [1, None, "ü"], "a": {"x": 0.1, "y": 1e-300}}
    save_tensors(tmp_path / "t", tensors, metadata)
    loaded, loaded_metadata = load_tensors(tmp_path / "t")
    assert loaded_metadata == metadata
    assert same_bits(loaded, tensors)
    assert {name: tensor.dtype for name, tensor in loaded.items()} == {n: tensor.dtype for n, tensor in tensors.items()}
    save_tensors(tmp_path / "u", tensors, dict(reversed(metadata.items())))
    assert (tmp_path / "u").read_bytes() == (tmp_path / "t").read_bytes()


def test_content_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    sync = os.fsync
    seen = []

    def recorded(descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        (target,) = (one for one in (tmp_path, *tmp_path.iterdir()) if one.stat().st_ino == inode)
        seen.append((target, target.read_bytes() if target.is_file() else b"folder", path.read_bytes()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    write_atomically(path, b"new content")
    (temporary, written, at_first), folder = seen
    assert temporary.parent == tmp_path
    assert temporary != path
    assert (written, at_first) == (b"new content", b"old")
    assert folder == (tmp_path, b"folder", b"new content")
    assert list(tmp_path.iterdir()) == [path]
