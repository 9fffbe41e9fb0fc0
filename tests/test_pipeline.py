"""The pipeline as DVC runs it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse

import pandas as pd
import pytest
import yaml

from tests.images import UNREADABLE
from tests.project import LONGER, Project, clone, environment
from tests.servers import FlowRun, wait_for

ROOT = Path(__file__).resolve().parent.parent
MNIST = ROOT.parent / "shared" / "data" / "mnist"
pytestmark = pytest.mark.slow

# Every stage but `code` writes a hash of all that dvc.yaml lets it depend on, and does nothing else.
STUB = """
import hashlib, sys, pathlib, yaml
from mlops.project.code_digest import write_digests
pipeline, params = yaml.safe_load(open("dvc.yaml")), yaml.safe_load(open("params.yaml"))
name, *paths = sys.argv[1:]
if name == "code":
    write_digests("stages", pathlib.Path(*paths))
    sys.exit()
entry, digests = pipeline["stages"][name], pathlib.Path(pipeline["vars"][0]["paths"]["digests"])
inputs, outputs = paths[: -len(entry["outs"])], paths[-len(entry["outs"]) :]
words = [name, *(str(params[section]) for section in entry["params"])]
words += [pathlib.Path(path).read_text() for path in [*inputs, digests / f"{name}.json"]]
for path in outputs:
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text(hashlib.sha256("".join(words).encode()).hexdigest())
"""
PRESETS = {
    "mnist-dcgan": {"generator_width": 8, "discriminator_width": 8},
    "goodfellow2014-mnist": {"generator_width": 64, "discriminator_width": 24},
}
"""Of MNIST's, each with the widths of tiny networks."""
READERS = {
    "compute": {"extractor", "train", "replicate", "choose", "diagnose", "evaluate", "register"},
    "data": {"fetch", "prepare", "extractor", "train", "replicate", "choose", "diagnose", "evaluate", "register"},
    "prepare": {"prepare", "extractor", "train", "replicate", "choose", "diagnose", "evaluate", "register"},
    "extractor": {"extractor", "choose", "diagnose", "evaluate", "register"},
    "network": {"train", "replicate", "choose", "diagnose", "evaluate", "register"},
    "train": {"train", "replicate", "choose", "diagnose", "evaluate", "register"},
    "replicate": {"replicate", "choose", "diagnose", "evaluate", "register"},
    "choose": {"choose", "diagnose", "evaluate", "register"},
    "doctor": {"diagnose", "register"},
    "evaluate": {"evaluate", "register"},
    "register": {"register"},
}
"""The stages that read a section of params.yaml, and those that follow."""
CODE = {
    "gan_core/losses/penalties.py": READERS["train"],
    "gan_core/metrics/intervals.py": READERS["choose"],
    "mlops/project/progress.py": set[str](),
}
"""The stages whose results a file shapes, and those that follow."""


def ran(output: str) -> set[str]:
    """Return the stages that DVC ran, by its output; without `code`, which it runs always."""
    stages = {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}
    assert "code" in stages
    return stages - {"code"}


@pytest.fixture(scope="module")
def stubbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a clone in which a pipeline of stages that do nothing has run."""
    place = clone(tmp_path_factory.mktemp("stubbed") / "project")
    (place.root / "stages" / "__main__.py").write_text(STUB)
    assert ran(place.dvc("repro")) == READERS["data"]
    return place


def test_touching_a_section_reruns_those_that_read_it_and_what_follows(stubbed: Project) -> None:
    assert ran(stubbed.dvc("repro")) == set()
    for section, expected in READERS.items():
        values = yaml.safe_load((stubbed.root / "params.yaml").read_text())[section]
        stubbed.set(**{section: {next(iter(values)): "touched"}})
        assert (section, ran(stubbed.dvc("repro"))) == (section, expected)


def test_changed_code_reruns_those_that_run_it_and_what_follows(stubbed: Project) -> None:
    for package in ("gan_core", "mlops"):
        for path in (stubbed.root / package).rglob("*.py"):
            path.write_text(path.read_text().replace('"""', '"""Other words. ', 1) + "\n# a comment\n")
    assert ran(stubbed.dvc("repro")) == set()
    for file, expected in CODE.items():
        path = stubbed.root / file
        path.with_name("new_file.py").write_text("NUMBER = 1\n")
        module = ".".join([*Path(file).parent.parts, "new_file"])
        path.write_text(path.read_text() + f"\nfrom {module} import NUMBER\n")
        assert (file, ran(stubbed.dvc("repro"))) == (file, expected)
        path.with_name("new_file.py").write_text("NUMBER = 2\n")
        assert (file, ran(stubbed.dvc("repro"))) == (file, expected)


def test_nothing_runs_again_if_outputs_stay_the_same(finished: Project, tmp_path: Path) -> None:
    place = finished.copy(tmp_path / "copy")
    place.set(prepare={"max_refused_share": 0.5})
    assert ran(place.dvc("repro")) == {"prepare", "register"}
    assert ran(place.dvc("repro")) == set()


def test_two_clean_clones_write_the_same_bytes(
    finished: Project, first_flow_run: tuple[FlowRun, dict[str, bytes]]
) -> None:
    """One runs its stages by `dvc repro`, the other one by one from a flow."""
    _, by_a_flow = first_flow_run
    assert by_a_flow == finished.results()


def test_killing_the_pipeline_and_running_it_again_equals_never_stopping(
    finished: Project, experiment: tuple[Project, str], tmp_path: Path
) -> None:
    place = finished.copy(tmp_path / "copy")
    place.set(train=LONGER)
    command = [sys.executable, "-m", "dvc", "repro"]
    process = subprocess.Popen(
        command, cwd=place.root, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    checkpoints = place.root / ".checkpoints"
    wait_for(lambda: any(checkpoints.rglob("state.safetensors")), "training does not start", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (place.root / "models" / "snapshots").exists()
    resumed = re.search(r"^train: .*\bstep (\d+)", place.dvc("repro", "evaluate"), re.MULTILINE)
    assert resumed is not None
    assert int(resumed[1]) % LONGER["checkpoint_every"] == 0
    whole, _ = experiment
    assert place.results() == whole.results()


def test_dvc_shows_metrics_plots_and_experiments(finished: Project, experiment: tuple[Project, str]) -> None:
    place, output = experiment
    assert ran(output) == READERS["train"]
    (row,) = [entry for entry in json.loads(place.dvc("exp", "show", "--json")) if entry["rev"] == "workspace"]
    assert row["data"]["params"]["params.yaml"]["data"]["train"]["steps"] == LONGER["steps"]
    metrics = json.loads(place.dvc("metrics", "diff", "--json"))
    assert list(metrics) == ["reports/evaluation/metrics.json"]
    old = json.loads((finished.root / "reports/evaluation/metrics.json").read_text())["digits"]
    assert list(old) == ["fid", "fid_high", "fid_low", "near_copies", "precision", "recall"]
    change = metrics["reports/evaluation/metrics.json"]["digits.fid"]
    assert change["old"] == old["fid"]
    assert change["new"] != change["old"]
    page = Path(urlparse(place.dvc("plots", "show").split()[-1]).path)
    assert "http" not in page.read_text()
    pictures = [page.parent / source for source in re.findall('<img src="([^"]+)"', page.read_text())]
    shown = {path.name.removeprefix("workspace_reports_").replace("_", "/", 1) for path in pictures if path.is_file()}
    names = ("comparison", "neighbours", "interpolation", "truncation")
    assert shown == {f"evaluation/{name}.png" for name in names} | {"diagnosis/instruments.png", "choice/snapshots.png"}


def test_a_local_remote_gives_a_clone_everything_but_mlflow(
    project: Callable[[], Project], finished: Project, tmp_path: Path
) -> None:
    place, remote = finished.copy(tmp_path / "copy"), tmp_path / "remote"
    place.dvc("remote", "add", "-d", "local", str(remote))
    place.dvc("push")
    second = project()
    second.dvc("remote", "add", "-d", "local", str(remote))
    for name in ("dvc.lock", "params.yaml"):
        shutil.copy(place.root / name, second.root / name)
    # as git has it: what nobody has made of another pipeline stops nothing
    shutil.copy(ROOT / "experiments/densities/dvc.lock", second.root / "experiments/densities/dvc.lock")
    second.dvc("pull")
    assert second.dvc("push").splitlines()[-1] == "Everything is up to date."
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
        choose={"images": 100},
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
    assert ("parzen" in scores) == (preset == "goodfellow2014-mnist")
    assert json.loads((place.root / "reports/diagnosis/diagnosis.json").read_text())["sentence"]


def test_a_folder_of_a_thousand_images_with_odd_ones_among_them(pictured: Project) -> None:
    assert "fid_efficientnet-lite0" in json.loads((pictured.root / "reports/evaluation/scores.json").read_text())
    manifest = pd.read_parquet(pictured.root / "data/prepared/manifest.parquet")
    refused = manifest[manifest.refused.notna()].set_index("source").refused
    assert set(refused.index) == UNREADABLE
    assert len(manifest) == 1006
    assert refused["dark/empty.jpg"] != refused["dark/truncated.jpg"]
