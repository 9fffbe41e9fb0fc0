import errno
import hashlib
import io
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gan_core.config import ComputeConfig, DcganConfig, MlpConfig, NetworkConfig
from mlops.images.chunk_store import ImageFile
from mlops.images.decoding import drawn_split
from mlops.images.layout.layout import NO_CLASS
from mlops.images.pixels import decode, pixels
from mlops.images.worker_pool import mapped
from mlops.project.errors import UserError
from mlops.project.identity import project_root
from mlops.project.params import ChooseConfig, DataConfig, Params, PrepareConfig
from mlops.project.prepared_data import load_images, load_labels, load_summary
from mlops.project.progress import progress
from mlops.runs.kept_work import MADE, delete_work
from mlops.safety.new_outputs import new_outputs
from stages.fetch import fetch
from stages.prepare import FEWEST, prepare
from tests.death import DEATH

ROOT = Path(__file__).parents[2]
MNIST = ROOT.parent / "shared" / "data" / "mnist"
CONFIG = PrepareConfig(
    image_size=8, channels=1, fit="crop", test_share=0.25, validation_share=0.1, max_refused_share=0.01, seed=0
)
FOLDER = DataConfig("folder", None)


@pytest.fixture(autouse=True)
def _own_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))


def encoded(image: Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return buffer.getvalue()


def jpeg(seed: int, side: int = 16) -> bytes:
    """Return a picture of 4 x 4 random patches, which differ even after compression."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return encoded(Image.fromarray(patches.repeat(side // 4, axis=0).repeat(side // 4, axis=1)), "JPEG")


def run(
    root: Path,
    files: dict[str, bytes],
    config: PrepareConfig = CONFIG,
    name: str = "prepared",
    network: NetworkConfig | None = None,
) -> Path:
    """Fetch and prepare a folder of files."""
    for file, content in files.items():
        (root / name / "source" / file).parent.mkdir(parents=True, exist_ok=True)
        (root / name / "source" / file).write_bytes(content)
    fetch(root / name / "raw", data=DataConfig("folder", str(root / name / "source")))
    with new_outputs([root / name / "out"]) as [out]:
        prepare(root / name / "raw", out, data=FOLDER, prepare=config, network=network)
    forget()
    return root / name / "out"


def forget() -> None:
    """Delete what finished runs keep, as if DVC had recorded what they made."""
    for note in (project_root() / ".checkpoints").glob(f"*/{MADE}"):
        delete_work(note.parent)


def table(prepared: Path) -> pd.DataFrame:
    return pd.read_parquet(prepared / "manifest.parquet")


def test_a_thousand_jpegs_with_odd_files_among_them_run_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"{'cats' if number % 3 else 'dogs'}/{number:04}.jpg": jpeg(number) for number in range(994)}
    files |= {
        "cats/cmyk.jpg": encoded(Image.new("CMYK", (16, 16), (10, 200, 30, 40)), "JPEG"),
        "cats/deep.png": encoded(Image.fromarray(np.full((16, 16), 30_000, np.uint16)), "PNG"),
        "dogs/palette.png": encoded(Image.new("P", (16, 16), 3), "PNG"),
    }
    bad = {"cats/empty.jpg": b"", "dogs/notes.jpg": b"no picture", "dogs/cut.jpg": jpeg(2003, side=64)[:-30]}
    prepared = run(tmp_path, files | bad, replace(CONFIG, channels=3))
    rows = table(prepared)
    assert len(rows) == 1000
    assert list(rows["source"]) == sorted(files | bad)
    refused = rows[rows["refused"].notna()].set_index("source")["refused"].to_dict()
    assert set(refused) == set(bad)
    assert refused["cats/empty.jpg"] == "empty file"
    assert refused["dogs/notes.jpg"].startswith("not an image")
    assert refused["dogs/cut.jpg"].startswith("unreadable: image file is truncated")
    summary = load_summary(prepared)
    assert (summary.classes, summary.refused) == (["cats", "dogs"], 3)
    assert summary.train + summary.validation + summary.test == 997
    assert 195 < summary.test < 305  # 249 expected; four standard deviations
    assert 43 < summary.validation < 107  # 75 expected
    shown = capsys.readouterr().out
    assert all(f"{source}: {reason}" in shown.replace("\n", " ") for source, reason in refused.items())


def test_the_manifest_leads_from_each_image_to_its_pixels_and_label(tmp_path: Path) -> None:
    files = {f"{'ab'[number % 2]}/{number}.jpg": jpeg(number) for number in range(30)} | {"a/bad.jpg": b""}
    prepared = run(tmp_path, files, replace(CONFIG, max_refused_share=0.5, validation_share=0.3))
    for _, row in table(prepared).iterrows():
        if row["source"] == "a/bad.jpg":
            assert row[["split", "index", "label", "width", "height", "sha256", "duplicate_of"]].isna().all()
            continue
        image = load_images(prepared, row["split"])[row["index"]]
        labels = load_labels(prepared, row["split"])
        assert hashlib.sha256(image.tobytes()).hexdigest() == row["sha256"]
        assert labels is not None
        assert labels[row["index"]] == row["label"] == "ab".index(row["class_name"]) == "ab".index(row["source"][0])
        assert (row["width"], row["height"]) == (16, 16)


def test_copies_are_reported_once_they_are_prepared_pixels(tmp_path: Path) -> None:
    """A copy in another format and with another name still has the same pixels."""
    copy = encoded(Image.open(io.BytesIO(jpeg(1))), "PNG")
    files = {f"{number}.jpg": jpeg(number) for number in range(20)} | {"copy.png": copy}
    prepared = run(tmp_path, files, replace(CONFIG, validation_share=0.3))
    rows = table(prepared).set_index("source")
    assert rows["duplicate_of"].dropna().to_dict() == {"copy.png": "1.jpg"}
    summary = load_summary(prepared)
    duplicates = summary.duplicates_train + summary.duplicates_validation + summary.duplicates_test
    assert (duplicates, summary.leaks, summary.classes) == (1, 0, None)
    assert load_labels(prepared, "train") is None


def test_official_test_splits_stay_and_their_leaks_are_counted(tmp_path: Path) -> None:
    files = {f"train/{number}.jpg": jpeg(number) for number in range(40)}
    files |= {f"test/{number}.jpg": jpeg(number) for number in range(30, 60)}
    prepared = run(tmp_path, files)
    summary, rows = load_summary(prepared), table(prepared)
    assert (summary.train + summary.validation, summary.test) == (40, 30)
    assert set(rows.loc[rows["split"].eq("validation"), "source"].str.split("/").str[0]) == {"train"}
    held = set(rows.loc[rows["split"].eq("validation"), "source"].str.removeprefix("train/"))
    assert 0 < len(held) < 12
    assert summary.leaks == 10 - len(held & {f"{number}.jpg" for number in range(30, 40)})
    assert (summary.duplicates_train, summary.duplicates_validation, summary.duplicates_test) == (0, 0, 0)


def test_images_in_no_class_folder_are_refused_by_name_and_the_others_keep_their_labels(tmp_path: Path) -> None:
    files = {f"train/{'ab'[number % 2]}/{number}.jpg": jpeg(number) for number in range(40)}
    files |= {f"test/a/{number}.jpg": jpeg(number) for number in range(40, 50)} | {"test/stray.jpg": jpeg(50)}
    prepared = run(tmp_path, files, replace(CONFIG, max_refused_share=0.02))
    rows = table(prepared).set_index("source")
    assert rows["refused"].dropna().to_dict() == {"test/stray.jpg": NO_CLASS}
    assert (load_summary(prepared).classes, load_summary(prepared).test) == (["a", "b"], 10)
    files |= {f"test/{number}.jpg": jpeg(number) for number in range(60, 70)}
    with pytest.raises(UserError, match=rf"11 of 61 files .*{NO_CLASS}: .*data\.path "):
        run(tmp_path, files, replace(CONFIG, max_refused_share=0.02), "flat")


def test_why_there_are_no_labels_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"{number}.jpg": jpeg(number) for number in range(20)} | {"a/1.jpg": jpeg(20), "b/1.jpg": jpeg(21)}
    assert load_summary(run(tmp_path, files, replace(CONFIG, validation_share=0.3))).classes is None
    assert "20 of 22 images" in capsys.readouterr().out.replace("\n", " ")


def test_conditional_networks_need_labels(tmp_path: Path) -> None:
    files = {f"{number}.jpg": jpeg(number) for number in range(20)} | {"a/1.jpg": jpeg(20), "b/1.jpg": jpeg(21)}
    config, network = replace(CONFIG, validation_share=0.3), DcganConfig("dcgan", 4, "normal", 4, 4, True)
    with pytest.raises(UserError, match=r"network\.conditional .* no labels.*\(20 of 22 images"):
        run(tmp_path, files, config, network=network)
    assert not (tmp_path / "prepared" / "out").exists()
    run(tmp_path, files, config, name="unconditional", network=replace(network, conditional=False))


def test_a_class_without_training_images_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"{'ab'[number % 2]}/{number}.jpg": jpeg(number) for number in range(40)}
    run(tmp_path, files, name="both")
    assert "warning" not in capsys.readouterr().out
    shares = {"test_share": CONFIG.test_share, "validation_share": CONFIG.validation_share}
    contents = (
        (seed, pixels(decode(jpeg(seed))[0], size=8, channels=1, fit="crop").tobytes()) for seed in range(100, 200)
    )
    tested = next(seed for seed, content in contents if drawn_split(content, seed=0, **shares) == "test")
    run(tmp_path, files | {"lost/1.jpg": jpeg(tested)}, name="lost")
    assert "warning: no training image is of lost;" in capsys.readouterr().out


def test_unreadable_exif_costs_no_image_and_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = io.BytesIO()
    Image.open(io.BytesIO(jpeg(50))).save(odd, "PNG", exif=b"GARBAGE")
    rows = table(run(tmp_path, {f"{number}.jpg": jpeg(number) for number in range(40)} | {"odd.png": odd.getvalue()}))
    assert rows["refused"].isna().all()
    assert list(rows.loc[rows["note"].notna(), "source"]) == ["odd.png"]
    assert "notes: 1 " in capsys.readouterr().out


def test_too_few_images_for_what_follows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 of the 2 images is in the train split, which takes 4 .*validation_share"):
        run(tmp_path, {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}, replace(CONFIG, seed=2))
    files = {f"train/{number}.jpg": jpeg(number) for number in range(20)}
    files |= {f"test/{number}.jpg": jpeg(number) for number in range(50, 53)}
    with pytest.raises(UserError, match="3 of the 23 images are in the test split, which takes 4 "):
        run(tmp_path, files, replace(CONFIG, validation_share=0.3), "three")
    files |= {"test/4.jpg": jpeg(60)}
    assert load_summary(run(tmp_path, files, replace(CONFIG, validation_share=0.3), "four")).test == 4


@pytest.mark.parametrize(
    "network", [MlpConfig("mlp", 4, "normal", 8, 8, False, 2, 0.2), DcganConfig("dcgan", 4, "normal", 4, 4, False)]
)
def test_the_fewest_images_run_through_to_their_scores(
    tmp_path: Path, committed: Params, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, network: NetworkConfig
) -> None:
    from stages.choose import choose  # only here, as in the next lines: they import torch
    from stages.evaluate import evaluate
    from stages.extractor import extractor
    from stages.train import train

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    write_idx(tmp_path / "raw", {"train": 5, "t10k": 4}, np.random.default_rng(0).bytes)
    config = replace(CONFIG, image_size=16, channels=3, validation_share=0.2)
    prepared = tmp_path / "prepared"
    prepare(tmp_path / "raw", prepared, data=DataConfig("mnist", None), prepare=config)
    summary = load_summary(prepared)
    assert {"train": summary.train, "validation": summary.validation, "test": summary.test} == FEWEST
    compute, execution = ComputeConfig("cpu", 1), committed.execution
    extractor(prepared, tmp_path / "extractor", compute=compute, extractor=replace(committed.extractor, epochs=1))
    generator, steps = tmp_path / "generator.safetensors", replace(committed.train, steps=4, batch_size=16)
    sections = {"compute": compute, "execution": execution, "network": network, "doctor": committed.doctor}
    sections |= {"augmentation": committed.augmentation}
    train(prepared, tmp_path / "snapshots", tmp_path / "training", train=steps, **sections)  # type: ignore[arg-type]
    snapshots, outputs = (tmp_path / "snapshots", tmp_path / "none"), (generator, tmp_path / "replicas")
    best = ChooseConfig("best", 10)
    choose(prepared, tmp_path / "extractor", *snapshots, *outputs, tmp_path / "choice", compute=compute, choose=best)
    assert generator.read_bytes() == (tmp_path / "snapshots" / "step_00000004.safetensors").read_bytes()
    inputs = (prepared, tmp_path / "extractor", generator, tmp_path / "replicas")
    few = replace(committed.evaluate, banks=2, parzen=True)
    evaluate(*inputs, tmp_path / "evaluation", compute=compute, execution=execution, train=steps, evaluate=few)
    scores = (tmp_path / "evaluation" / "scores.json").read_text()
    assert json.loads(scores)["images"] == FEWEST["test"]
    assert "NaN" not in scores
    assert "Infinity" not in scores


def test_the_same_input_gives_the_same_bytes_elsewhere(tmp_path: Path) -> None:
    files = {f"{'ab'[number % 2]}/{number}.jpg": jpeg(number) for number in range(40)} | {"bad.jpg": b"x"}
    config = replace(CONFIG, max_refused_share=0.5)
    one, other = (run(tmp_path, files, config, name) for name in ("one", "other"))
    names = sorted(path.name for path in one.iterdir())
    assert names == [
        "images_test.npy",
        "images_train.npy",
        "images_validation.npy",
        "labels_test.npy",
        "labels_train.npy",
        "labels_validation.npy",
        "manifest.parquet",
        "summary.json",
    ]
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mixed(count: int) -> dict[str, bytes]:
    """Return JPEG files in two classes with a bad one, a copy and a colourful long name among them."""
    files = {f"{'ab'[number % 2]}/{number:05}.jpg": jpeg(number % 50) for number in range(count)}
    return files | {"a/bad.jpg": b"x", f"b/{'é' * 60}.jpg": jpeg(51)}


def test_the_number_of_processes_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def counted(*arguments: Any, processes: int) -> Any:
        started.append(processes)
        return mapped(*arguments, processes=processes)

    config = replace(CONFIG, channels=3, max_refused_share=0.5)
    monkeypatch.setattr("stages.prepare.mapped", counted)
    monkeypatch.setattr("stages.prepare.CHUNK", 7)
    alone = contents(run(tmp_path, mixed(90), config, "alone"))
    monkeypatch.setattr("stages.prepare.PARALLEL_FROM", 0)
    for number in (1, 3):
        monkeypatch.setattr("stages.prepare.cores", lambda number=number: number)
        assert contents(run(tmp_path, mixed(90), config, f"with-{number}")) == alone
    assert started == [1, 1, 3]
    assert list((tmp_path / "project" / ".checkpoints").glob("prepare-*")) == []


@pytest.mark.parametrize(("bound", "largest"), [(3 * 16 * 16 * 4 + 5, 4), (1, 1)])
def test_chunks_of_large_images_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: int, largest: int
) -> None:
    counts: list[int] = []

    def counted(function: Any, tasks: Any, *, processes: int) -> Any:
        for chunk in mapped(function, tasks, processes=processes):
            counts.append(sum(map(len, chunk.pixels.values())) // (3 * 16 * 16))
            yield chunk

    config = replace(CONFIG, image_size=16, channels=3)
    monkeypatch.setattr("stages.prepare.mapped", counted)
    monkeypatch.setattr("stages.prepare.CHUNK_PIXELS", bound)
    run(tmp_path, {f"{number}.jpg": jpeg(number) for number in range(30)}, config)
    assert sum(counts) == 30
    assert max(counts) == largest


def test_arrays_are_the_same_from_any_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(tmp_path / "raw", data=DataConfig("digits", None))
    monkeypatch.setattr("stages.prepare.cores", lambda: 3)
    for name, parallel_from in (("alone", 1 << 30), ("three", 0)):
        monkeypatch.setattr("stages.prepare.PARALLEL_FROM", parallel_from)
        prepare(tmp_path / "raw", tmp_path / name, data=DataConfig("digits", None), prepare=CONFIG)
        forget()
    assert contents(tmp_path / "alone") == contents(tmp_path / "three")


SLOW_STAGE = """
import os, signal, sys, time
from pathlib import Path
from dataclasses import replace
from mlops.images import chunk_store as intake
from stages import prepare as stage
from tests.stages.test_prepare import CONFIG, FOLDER

if __name__ == "__main__":
    stage.CHUNK = 10
    stage.PARALLEL_FROM, stage.cores = 0, lambda: int(sys.argv[3])
    add = intake.ChunkStore.add

    def add_and_die(self, chunk):
        add(self, chunk)
        if self.done == 50:
            with (self.folder / "images_train.npy").open("ab") as file:
                file.write(b"half an image")
            os.kill(os.getpid(), signal.SIGKILL)

    intake.ChunkStore.add = add_and_die
    stage.prepare(Path(sys.argv[1]), Path(sys.argv[2]), data=FOLDER, prepare=replace(CONFIG, max_refused_share=0.5))
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_goes_on_where_it_was(
    tmp_path: Path, processes: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []

    def spied(description: str, total: int, first: int) -> Any:
        begun.append((total, first))
        return progress(description, total, first)

    config = replace(CONFIG, max_refused_share=0.5)
    whole = contents(run(tmp_path, mixed(118), config, "whole"))
    raw, out = tmp_path / "whole" / "raw", tmp_path / "again"
    command = [sys.executable, "-c", SLOW_STAGE, str(raw), str(out), str(processes)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    assert not out.exists()
    monkeypatch.setattr("stages.prepare.progress", spied)
    prepare(raw, out, data=FOLDER, prepare=config)
    assert begun == [(120, 50)]
    assert "prepare: resumes after 50 images of an earlier run" in capsys.readouterr().err
    assert contents(out) == whole


def test_an_end_between_any_two_writes_ends_with_the_right_bytes(tmp_path: Path) -> None:
    config = replace(CONFIG, max_refused_share=0.5, validation_share=0.3)
    whole = contents(run(tmp_path, mixed(20), config, "whole"))
    raw, kept, changes, killed = tmp_path / "whole" / "raw", tmp_path / "project" / ".checkpoints", 0, True

    def run_to(name: str) -> Path:
        prepare(raw, tmp_path / f"{name}-{changes}", data=FOLDER, prepare=config)
        return tmp_path / f"{name}-{changes}"

    while killed:
        shutil.rmtree(kept, ignore_errors=True)
        killed = DEATH.ends(lambda: run_to("killed"), kept, changes)
        assert contents(run_to("again")) == whole, changes
        changes += 1
    assert changes > 10


def test_finished_work_is_not_done_again_and_never_written_into_as_long_as_dvc_has_not_recorded_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(tmp_path / "raw", data=DataConfig("digits", None))
    prepare(tmp_path / "raw", tmp_path / "first", data=DataConfig("digits", None), prepare=CONFIG)
    first = contents(tmp_path / "first")
    chunks = []
    monkeypatch.setattr("stages.prepare.decoded", lambda *_: chunks.append(0))
    prepare(tmp_path / "raw", tmp_path / "second", data=DataConfig("digits", None), prepare=CONFIG)
    assert chunks == []
    assert contents(tmp_path / "second") == contents(tmp_path / "first") == first
    images = [tmp_path / name / "images_train.npy" for name in ("first", "second")]
    assert images[0].stat().st_ino != images[1].stat().st_ino
    forget()
    assert list((tmp_path / "project" / ".checkpoints").glob("prepare-*")) == []


def test_too_many_refused_files_stop_the_pipeline_and_leave_nothing(tmp_path: Path) -> None:
    files = {f"{number:03}.jpg": jpeg(number) for number in range(88)} | {f"bad{n:02}.jpg": b"" for n in range(12)}
    with pytest.raises(UserError) as caught:
        run(tmp_path, files, replace(CONFIG, max_refused_share=0.119))
    message = str(caught.value)
    assert "12 of 100 files (12.00%) were refused" in message
    assert "prepare.max_refused_share in params.yaml allows 11.90%" in message
    assert "bad00.jpg: empty file" in message
    assert "bad09.jpg: empty file" in message
    assert message.endswith("and 2 more")
    assert sorted(path.name for path in (tmp_path / "prepared").iterdir()) == ["raw", "source"]
    prepare(
        tmp_path / "prepared" / "raw",
        tmp_path / "out",
        data=FOLDER,
        prepare=replace(CONFIG, max_refused_share=0.12),
    )
    assert load_summary(tmp_path / "out").refused == 12


@pytest.mark.parametrize(
    ("files", "split"),
    [
        ({"a.jpg": jpeg(1), "b.jpg": jpeg(1)}, r"\w+"),
        ({f"train/{n}.jpg": jpeg(n) for n in range(8)} | {"test/b.jpg": b""}, "test"),
    ],
)
def test_an_empty_split_is_an_error(tmp_path: Path, files: dict[str, bytes], split: str) -> None:
    with pytest.raises(UserError, match=f"{split}.*prepare.test_share"):
        run(tmp_path, files, replace(CONFIG, max_refused_share=0.9, validation_share=0.5))


def test_a_full_disk_leaves_nothing_that_looks_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ImageFile, pixels: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ImageFile, "append", fail)
    with pytest.raises(UserError, match=str(Path.cwd())):
        run(tmp_path, {f"{number}.jpg": jpeg(number) for number in range(20)})
    assert sorted(path.name for path in (tmp_path / "prepared").iterdir()) == ["raw", "source"]


def write_idx(raw: Path, counts: dict[str, int], content: Callable[[int], bytes] = bytes) -> dict[str, list[int]]:
    """Write images of 5 rows and 4 columns; return their labels."""
    raw.mkdir()
    labels = {}
    for split, count in counts.items():
        (raw / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, 5, 4) + content(count * 20))
        labels[split] = [number * 3 % 10 for number in range(count)]
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + bytes(labels[split]))
    return labels


def test_small_idx_files_run_through_with_their_own_split(tmp_path: Path) -> None:
    labels = write_idx(tmp_path / "raw", {"train": 7, "t10k": 4})
    config = replace(CONFIG, image_size=16, channels=3, fit="stretch", validation_share=0.3)
    prepare(tmp_path / "raw", tmp_path / "out", data=DataConfig("fashion_mnist", None), prepare=config)
    assert load_images(tmp_path / "out", "train").shape == (5, 3, 16, 16)
    assert load_images(tmp_path / "out", "validation").shape == (2, 3, 16, 16)
    assert load_images(tmp_path / "out", "test").shape == (4, 3, 16, 16)
    found = load_labels(tmp_path / "out", "test")
    assert found is not None
    assert found.tolist() == labels["t10k"]
    assert found.dtype == np.int64
    assert table(tmp_path / "out")[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[4, 5]]


def test_digits_are_split_by_their_pixels_and_kept_as_they_are(tmp_path: Path) -> None:
    fetch(tmp_path / "raw", data=DataConfig("digits", None))
    prepare(tmp_path / "raw", tmp_path / "out", data=DataConfig("digits", None), prepare=CONFIG)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["train"] + summary["validation"], summary["test"], summary["leaks"]) == (1361, 436, 0)
    assert 92 < summary["validation"] < 181  # 136 expected; four standard deviations
    assert summary["classes"] == list("0123456789")
    first = table(tmp_path / "out").iloc[0]
    image = load_images(tmp_path / "out", first["split"])[first["index"]]
    assert image[0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]


@pytest.mark.skipif(not MNIST.exists(), reason="needs the shared MNIST files beside the checkout")
def test_mnist_runs_through(tmp_path: Path) -> None:
    data = DataConfig("mnist", str(MNIST))
    fetch(tmp_path / "raw", data=data)
    config = replace(CONFIG, image_size=28, validation_share=0.1666667)
    prepare(tmp_path / "raw", tmp_path / "out", data=data, prepare=config)
    images, labels = load_images(tmp_path / "out", "test"), load_labels(tmp_path / "out", "test")
    raw = (tmp_path / "raw" / "t10k-images-idx3-ubyte").read_bytes()
    official = (tmp_path / "raw" / "train-images-idx3-ubyte").read_bytes()[16:]
    assert load_images(tmp_path / "out", "train").tobytes() == official[: 50_000 * 784]
    assert load_images(tmp_path / "out", "validation").tobytes() == official[50_000 * 784 :]
    assert images.shape == (10_000, 1, 28, 28)
    assert images.tobytes() == raw[16:]
    assert labels is not None
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    summary = load_summary(tmp_path / "out")
    counts = (summary.train, summary.validation, summary.test, summary.refused, summary.leaks)
    assert counts == (50_000, 10_000, 10_000, 0, 0)


def test_names_with_markup_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"[red]/{number}.jpg": jpeg(number) for number in range(20)} | {"[bold]x.jpg": b""}
    run(tmp_path, files, replace(CONFIG, max_refused_share=0.5, validation_share=0.3))
    assert "[bold]x.jpg: empty file" in capsys.readouterr().out


def test_the_data_stages_do_not_wait_for_torch() -> None:
    code = "import sys, stages.fetch, stages.prepare, mlops.project.prepared_data; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
