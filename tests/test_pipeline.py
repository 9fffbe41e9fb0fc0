"""The pipeline as DVC runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.project import Project, clone, environment
from tests.servers import FlowRun

ROOT = Path(__file__).resolve().parent.parent
MNIST = ROOT.parent / "shared" / "data" / "mnist"
pytestmark = pytest.mark.slow

# A stage that does nothing but depend on what dvc.yaml says it depends on.
STUB = """
import hashlib, sys, pathlib, yaml
entry = yaml.safe_load(open("dvc.yaml"))["stages"][sys.argv[1]]
paths, params = sys.argv[2:], yaml.safe_load(open("params.yaml"))
inputs, outputs = paths[: -len(entry["outs"])], paths[-len(entry["outs"]) :]
words = [sys.argv[1], *(str(params[section]) for section in entry["params"])]
words += [pathlib.Path(path).read_text() for path in inputs]
for path in outputs:
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text(hashlib.sha256("".join(words).encode()).hexdigest())
"""
PRESETS = {
    "mnist-dcgan": {"generator_width": 8, "discriminator_width": 8},
    "goodfellow2014-mnist": {"generator_width": 64, "discriminator_width": 24},
}
"""Of MNIST's, each with the widths of tiny players."""
READERS = {
    "compute": {"extractor", "train", "replicate", "diagnose", "evaluate", "register"},
    "data": {"fetch", "prepare", "extractor", "train", "replicate", "diagnose", "evaluate", "register"},
    "prepare": {"prepare", "extractor", "train", "replicate", "diagnose", "evaluate", "register"},
    "extractor": {"extractor", "evaluate", "register"},
    "network": {"train", "replicate", "diagnose", "evaluate", "register"},
    "train": {"train", "replicate", "diagnose", "evaluate", "register"},
    "replicate": {"replicate", "evaluate", "register"},
    "doctor": {"diagnose", "register"},
    "evaluate": {"evaluate", "register"},
    "register": {"register"},
}


def ran(said: str) -> set[str]:
    """Return the stages that DVC ran, by its output."""
    return {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")}


def test_touching_a_section_reruns_those_that_read_it_and_what_follows(project: Callable[[], Project]) -> None:
    place = project()
    (place.root / "stages" / "__main__.py").write_text(STUB)
    assert ran(place.dvc("repro")) == READERS["data"]
    assert ran(place.dvc("repro")) == set()
    for section, expected in READERS.items():
        values = yaml.safe_load((place.root / "params.yaml").read_text())[section]
        place.set(**{section: {next(iter(values)): "touched"}})
        assert (section, ran(place.dvc("repro"))) == (section, expected)


def test_nothing_runs_again_where_outputs_stay_the_same(project: Callable[[], Project], finished: Project) -> None:
    place = copied(finished, project)
    place.set(prepare={"max_refused_share": 0.5})
    assert ran(place.dvc("repro")) == {"prepare", "register"}
    assert ran(place.dvc("repro")) == set()


def copied(finished: Project, project: Callable[[], Project]) -> Project:
    """Return a copy of a project in which the pipeline has run."""
    root = project().root
    shutil.rmtree(root)
    shutil.copytree(finished.root, root, symlinks=True)
    return Project(root)


def test_two_clean_clones_write_the_same_bytes(
    finished: Project, first_flow_run: tuple[FlowRun, dict[str, bytes]]
) -> None:
    """One runs its stages by `dvc repro`, the other one by one from a flow."""
    _, by_a_flow = first_flow_run
    assert by_a_flow == finished.results()


def test_killing_the_pipeline_and_running_it_again_equals_never_stopping(
    project: Callable[[], Project], finished: Project
) -> None:
    steps = {"steps": 1500, "checkpoint_every": 100, "report_every": 1}
    place, whole = copied(finished, project), copied(finished, project)
    for copy in (place, whole):
        copy.set(train=steps)
    command = [sys.executable, "-m", "dvc", "repro"]
    process = subprocess.Popen(
        command, cwd=place.root, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    wait_for(lambda: any((place.root / ".checkpoints").rglob("state.safetensors")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (place.root / "models" / "generator.safetensors").exists()
    assert "train: going on from step " in place.dvc("repro", "evaluate")
    whole.dvc("repro", "evaluate")
    assert place.results() == whole.results()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until something is so, or the process that should bring it about has ended."""
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, "the process ended too early"
        assert time.monotonic() < deadline, "it took longer than 4 minutes"
        time.sleep(0.02)


def test_dvc_shows_metrics_plots_and_experiments(project: Callable[[], Project], finished: Project) -> None:
    place = copied(finished, project)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    assert place.run(*git, "add", "-A").returncode == 0
    assert place.run(*git, "commit", "-q", "-m", "ran").returncode == 0
    assert ran(place.dvc("exp", "run", "-S", "train.steps=40")) == READERS["train"]

    (shown,) = [entry for entry in json.loads(place.dvc("exp", "show", "--json")) if entry["rev"] == "workspace"]
    assert shown["data"]["params"]["params.yaml"]["data"]["train"]["steps"] == 40
    metrics = json.loads(place.dvc("metrics", "diff", "--json"))
    change = metrics["reports/evaluation/scores.json"]["fid_digits.mean"]
    assert (
        change["old"]
        == json.loads((finished.root / "reports/evaluation/scores.json").read_text())["fid_digits"]["mean"]
    )
    assert change["new"] != change["old"]
    place.dvc("plots", "show")
    page = (place.root / "dvc_plots" / "index.html").read_text()
    assert "d_loss" in page
    assert "fake_prob" in page


def test_a_local_remote_gives_a_clone_everything_but_mlflow(
    project: Callable[[], Project], finished: Project, tmp_path: Path
) -> None:
    place = copied(finished, project)
    remote = tmp_path / "remote"
    place.dvc("remote", "add", "-d", "local", str(remote))
    place.dvc("push")
    second = project()
    second.dvc("remote", "add", "-d", "local", str(remote))
    for name in ("dvc.lock", "params.yaml"):
        shutil.copy(place.root / name, second.root / name)
    second.dvc("pull", "--allow-missing")
    assert second.results() == finished.results()
    assert ran(second.dvc("repro")) == {"register"}


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    """Return a project for each preset of MNIST's, by its name; both pipelines ran side by side, in one thread each."""
    if not MNIST.is_dir():
        pytest.skip(f"MNIST's files are not at {MNIST}")
    places = {preset: clone(tmp_path_factory.mktemp("mnist") / preset) for preset in PRESETS}
    with ThreadPoolExecutor(len(places)) as pool:
        list(pool.map(train_tiny_mnist, places, places.values()))
    return places


def train_tiny_mnist(preset: str, place: Project) -> None:
    """Apply a preset, make it tiny, and run the pipeline."""
    assert place.run(sys.executable, "-m", "commands.preset", preset, str(MNIST)).returncode == 0
    place.set(
        compute={"threads": 1},
        extractor={"epochs": 1},
        network=PRESETS[preset],
        train={"steps": 30, "report_every": 10, "sample_every": 30},
        evaluate={"max_images": 500},
    )
    place.dvc("repro")


@pytest.mark.parametrize("preset", PRESETS)
def test_mnist_from_a_folder(preset: str, mnist: dict[str, Project]) -> None:
    place = mnist[preset]
    scores = json.loads((place.root / "reports/evaluation/scores.json").read_text())
    fid = scores["fid_mnist"]
    assert fid["real"] < min(fid["mean"], fid["noise"])
    accuracy = json.loads((place.root / "models/extractor/metrics.json").read_text())["test_accuracy"]
    assert accuracy > 0.9
    summary = json.loads((place.root / "data/prepared/summary.json").read_text())
    held = 6_000 if preset == "mnist-dcgan" else 10_000
    assert (summary["train"], summary["validation"], summary["test"]) == (60_000 - held, held, 10_000)
    assert ("parzen_mean" in scores) == (preset == "goodfellow2014-mnist")
    assert json.loads((place.root / "reports/diagnosis/diagnosis.json").read_text())["sentence"]


def test_a_folder_of_a_thousand_images_with_odd_ones_among_them(project: Callable[[], Project], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(1000):
        path = tmp_path / "images" / ("light" if number % 2 else "dark") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (40, 50, 3), np.uint8) + np.uint8(127 * (number % 2))
        Image.fromarray(pixels).save(path)
    dark = tmp_path / "images" / "dark"
    picture = Image.fromarray(pixels)
    picture.convert("CMYK").save(dark / "cmyk.jpg")
    picture.convert("P").save(dark / "palette.png")
    Image.fromarray(rng.integers(0, 2**16, (40, 50), np.uint16)).save(dark / "sixteen.png")
    (dark / "truncated.jpg").write_bytes((dark / "0.jpg").read_bytes()[:300])
    (dark / "empty.jpg").write_bytes(b"")
    (dark / "notes.txt").write_text("no image")
    place = project()
    assert place.run(sys.executable, "-m", "commands.preset", "images-32", str(tmp_path / "images")).returncode == 0
    network = {"generator_width": 8, "discriminator_width": 8}
    place.set(extractor={"epochs": 1}, network=network, train={"steps": 20, "report_every": 10})
    place.dvc("repro")
    assert "fid_folder" in json.loads((place.root / "reports/evaluation/scores.json").read_text())
    manifest = pd.read_parquet(place.root / "data/prepared/manifest.parquet")
    refused = manifest[manifest.refused.notna()].set_index("source").refused
    assert set(refused.index) == {"dark/empty.jpg", "dark/notes.txt", "dark/truncated.jpg"}
    assert len(manifest) == 1006
    assert refused["dark/empty.jpg"] != refused["dark/truncated.jpg"]
