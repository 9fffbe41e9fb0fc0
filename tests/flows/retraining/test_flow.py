"""The flow as a schedule starts it: three times, of which the images are new once."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.project import Project, clone

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]
FIRST, ADDED = 500, 300
THRICE = """
import json, shutil
import flows  # before Prefect
from flows.retraining.flow import gan_retrain
from prefect.artifacts import Artifact

states = [gan_retrain(return_state=True)]
shutil.copytree("more", "pictures", dirs_exist_ok=True)
states += [gan_retrain(return_state=True) for _ in range(2)]
pages = {key: Artifact.get(key).data for key in ("gan-images-changed", "gan-retraining")}
print(json.dumps({"states": [(state.type.value, state.name, state.message) for state in states], "pages": pages}))
"""


def draw(folder: Path, numbers: range) -> None:
    """Write digits as a person has them: PNG files in a folder of each class, here odd and even."""
    digits = load_digits()
    for number in numbers:
        place = folder / ("odd" if digits.target[number] % 2 else "even") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[number] * 15).astype(np.uint8)).save(place)


@pytest.fixture(scope="module")
def thrice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, Any]]:
    """Return a project with a champion that was retrained when 300 images came, and what the three runs left."""
    project = clone(tmp_path_factory.mktemp("retrained") / "project")
    draw(project.root / "pictures", range(FIRST))
    draw(project.root / "more", range(FIRST, FIRST + ADDED))
    project.set(
        data={"name": "folder", "path": "pictures"},
        extractor={"epochs": 1},
        train={"steps": 20},
        evaluate={"max_images": 60},
        register={"max_fid_to_trivial": 1e9, "max_fid_ratio_to_noise": 1e9, "max_excess_near_copies": 1.0},
    )
    project.dvc("repro")
    ended = project.run(sys.executable, "-c", THRICE)
    assert ended.returncode == 0, ended.stdout
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith('{"states"')]
    return project, json.loads(line)


def test_only_new_images_are_trained_on(thrice: tuple[Project, dict[str, Any]]) -> None:
    project, left = thrice
    names = [(kind, name == "NothingNew") for kind, name, _ in left["states"]]
    assert names == [("COMPLETED", True), ("COMPLETED", False), ("COMPLETED", True)]
    count = "from mlops.tracking.runs import connect; c, e = connect(); print('runs', len(c.search_runs([e])))"
    assert "runs 2" in project.run(sys.executable, "-c", count).stdout


def test_the_report_tells_why_the_drift_and_what_the_gate_made_of_it(thrice: tuple[Project, dict[str, Any]]) -> None:
    project, left = thrice
    for page in left["pages"].values():
        assert f"{ADDED} images added, 0 removed, 0 changed" in page
        assert "MIND in the former extractor's features is " in page
        assert " between two halves of the former ones" in page
    assert f"| images | {FIRST} | {FIRST + ADDED} |" in left["pages"]["gan-images-changed"]
    entries = [json.loads(line) for line in (project.root / "ledger.jsonl").read_text().splitlines()]
    assert [entry["action"] for entry in entries][:2] == ["promoted", "scored again"]
    assert len(entries) == 3
    test = entries[2]["evidence"]["test"]  # of one passport
    assert {"champion", "candidate"} <= test.keys()
    assert test["metric"] in left["pages"]["gan-retraining"]
