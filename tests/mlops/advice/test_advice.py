import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from gan_core.networks.build import build_discriminator, build_generator
from mlops.advice.cost import cost
from mlops.project.params import Params, ReplicateConfig
from tests.project import Project


def test_what_is_measured_takes_time_and_leaves_nothing(prepared: Path, committed: Params, root: Path) -> None:
    costs = cost(prepared, committed)
    assert 0 < committed.train.steps * costs.step < costs.training
    assert list(root.iterdir()) == []


def test_the_time_is_that_of_all_steps_and_grows_with_them(
    prepared: Path, committed: Params, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.advice.cost._measured", lambda *_: (0.25, 0.5))
    train, alone = replace(committed.train, report_every=20), replace(committed, replicate=ReplicateConfig(0))
    short, long = (cost(prepared, replace(alone, train=replace(train, steps=n))) for n in (400, 4000))
    assert (short.training, long.training) == (100 + 10, 1000 + 100)
    assert short.disk == long.disk > sum(path.stat().st_size for path in prepared.iterdir())


def test_a_whole_run_is_longer_than_its_trainings_of_which_each_replica_is_one(
    prepared: Path, committed: Params, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.advice.cost._measured", lambda *_: (0.01, 0.0))
    one, five = (cost(prepared, replace(committed, replicate=ReplicateConfig(seeds))) for seeds in (0, 4))
    assert five.training == pytest.approx(5 * one.training)
    assert five.whole - five.training == one.whole - one.training > 0


def test_the_snapshots_of_all_seeds_take_disk_in_three_places_and_two_checkpoints_of_each_stay(
    prepared: Path, committed: Params, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.advice.cost._measured", lambda *_: (0.0, 0.0))

    def disk(snapshots: int, seeds: int) -> int:
        config = replace(committed.train, snapshots=snapshots)
        return cost(prepared, replace(committed, train=config, replicate=ReplicateConfig(seeds))).disk

    built = (build(committed.network, size=8, channels=1, seed=0) for build in (build_generator, build_discriminator))
    generator, discriminator = (sum(weights.nbytes for weights in network.parameters()) for network in built)
    one, kept = 3 * generator, 2 * (4 * generator + 3 * discriminator)
    more = [disk(*case) - disk(1, 0) for case in ((10, 0), (1, 4), (2, 1))]
    assert more == [9 * one, 4 * one + 4 * kept, 3 * one + kept]


@pytest.mark.slow
def test_a_preset_follows_the_advice_which_changes_nothing(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 40, 40, 3), np.uint8)
    (project.root / "my pictures").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(project.root / "my pictures" / f"{number}.png")
    before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*") if "__pycache__" not in path.parts}
    advice = project.run(sys.executable, "-m", "commands.advise", "my pictures", COLUMNS="80")
    assert advice.returncode == 0, advice.stdout
    assert max(map(len, advice.stdout.splitlines())) <= 80
    assert "make preset DATA='my pictures' && make run" in advice.stdout
    after = {path: path.stat().st_mtime_ns for path in project.root.rglob("*") if "__pycache__" not in path.parts}
    assert {path for path, time in after.items() if before.get(path) != time and path.is_file()} == set()
    chosen = project.run(sys.executable, "-m", "commands.preset", "", "my pictures")
    assert chosen.returncode == 0, chosen.stdout
    assert "make preset" not in chosen.stdout
    values = yaml.safe_load((project.root / "params.yaml").read_text())
    assert (values["data"], values["network"]["family"]) == ({"name": "folder", "path": "my pictures"}, "dcgan")
    wrong = project.run(sys.executable, "-m", "commands.advise", "nowhere")
    assert [line for line in wrong.stdout.splitlines() if line.startswith("error: ")] == wrong.stdout.splitlines()


@pytest.mark.slow
def test_there_is_advice_before_a_training_and_none_after_it(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    command = (sys.executable, "-m", "commands.advise", "--before-training")
    assert project.run(*command).stdout == ""
    project.set(train={"seed": 5})
    ended: subprocess.CompletedProcess[str] = project.run(*command)
    assert ended.returncode == 0, ended.stdout
    assert "436 to test" in ended.stdout
