import tarfile
from pathlib import Path

from benchmarks.prepare import SIDE, make_project
from mlops.images.readers import read


def test_generated_images_are_packed_as_fetch_does(tmp_path: Path) -> None:
    make_project(tmp_path, 2000)
    originals = read(tmp_path / "raw", "folder")
    read_back = [
        (original, original.load(lambda _: None)[0].size)
        for chunk in originals.chunks(0, 700)
        for original in chunk.originals()
    ]
    with tarfile.open(tmp_path / "raw" / "images.tar", "r:") as tar:
        assert [original.source for original, _ in read_back] == tar.getnames()
    assert len(read_back) == originals.total == 2000
    assert {original.class_name for original, _ in read_back} == {f"class-{number}" for number in range(10)}
    assert {size for _, size in read_back} == {(SIDE, SIDE)}
