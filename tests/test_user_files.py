"""Files that a person keeps in and around every place that the project writes and deletes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from mlops.safety.pipelines import DENSITIES, MAIN, stage_outputs
from tests.project import LONGER, Project, environment
from tests.servers import Deployment, wait_for

ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = [path for paths in stage_outputs(ROOT / MAIN).values() for path in paths if not path.suffix]
AROUND = [
    *(
        f"{path.parent}/{name}"
        for path in OUTPUTS
        for name in ("mine", f".{path.name}.partial/mine", f"{path.name}.bak")
    ),
    *(f".checkpoints/{folder}mine" for folder in ("", "downloads/", "written/", "prepare-mine/", "key/samples/")),
    *(".mlflow/mine", ".mlflow/artifacts/mine", ".prefect/mine", "generated/mine", "generated/old/mine"),
    *(".dvc/mine", ".dvc/cache/mine", ".dvc/tmp/mine", "clone/mine", "experiments/densities/mine", "models/mine"),
]
"""Files beside outputs, and in folders where the project keeps files of its own."""
FLOWS = """
from flows.generation import gan_generate
from flows.promotion import gan_promotion, gan_rollback
gan_generate(3, "generated/by a flow")
gan_promotion(1, "a test")
gan_rollback("a test")
gan_generate(3, "{folder}")
"""
"""What `prefect deployment run` starts; the last one fails."""


def plant(project: Project, names: Iterable[str]) -> dict[Path, bytes]:
    """Write a file of a person at each place; return all by path."""
    files = {project.root / name: f"mine: {name}".encode() for name in names}
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return files


def lost(files: dict[Path, bytes]) -> list[Path]:
    return [path for path, content in files.items() if not path.is_file() or path.read_bytes() != content]


def test_nothing_runs_while_an_output_holds_files_of_a_person(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    for output in OUTPUTS:
        files = plant(project, [f"{output}/mine/a.png"])
        ended = project.run(sys.executable, "-m", "stages", "code", "reports/digests")
        assert ended.returncode != 0
        assert f" {output}/mine/a.png" in ended.stdout
        assert lost(files) == []
        (file,) = files
        file.unlink()
    files = plant(project, [f"{output}/a.png" for output in OUTPUTS] + ["generated/old/a.png"])
    densities = plant(project, [f"{path}/mine" for path in stage_outputs(ROOT / DENSITIES)["density_pictures"]])
    for command in (
        ("-m", "dvc", "repro", "--force", "prepare"),
        ("-m", "dvc", "repro", "--force", str(DENSITIES)),
        ("-m", "flows"),
        ("-m", "commands.generate", "1", "generated/old"),
        ("-m", "commands.generate", "1", "data/raw/new"),
        ("-m", "commands.compare", "1", "1", "--html", "data/raw/a.png"),
        ("-m", "commands.rebuild", "champion", "generated/old"),
        ("-m", "commands.preset", "images-32", "data/raw"),
    ):
        ended = project.run(sys.executable, *command)
        assert ended.returncode != 0, command
        assert "Traceback" not in ended.stdout, command
        assert lost(files | densities) == [], command


@pytest.mark.slow
def test_files_beside_outputs_survive_runs_that_end_fail_and_are_killed(
    finished: Project, deployed: Deployment, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "copy")
    files = plant(project, AROUND)
    project.set(prepare={"seed": 1}, train=LONGER)
    command = [sys.executable, "-m", "dvc", "repro"]
    process = subprocess.Popen(
        command, cwd=project.root, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    checkpoints = project.root / ".checkpoints"
    wait_for(lambda: any(checkpoints.rglob("state.safetensors")), "training does not start", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (training,) = [path.parent for path in checkpoints.rglob("state.safetensors")]
    files |= plant(project, [f"{training.relative_to(project.root)}/{name}" for name in ("mine", "samples/mine.png")])
    assert lost(files) == []
    project.set(evaluate={"few_images": "refuse", "max_images": 50}, extractor={"epochs": 1})
    assert project.run(*command).returncode != 0
    assert lost(files) == []
    project.set(evaluate={"few_images": "mark"})
    project.dvc("repro")
    for arguments in (
        ("-m", "commands.generate", "3", "generated/new"),
        ("-m", "commands.compare", "2", "2", "--html", "generated/page.html"),
        ("-m", "commands.rebuild", "2"),
        ("-m", "commands.promote", "promote", "2", "--reason=a test"),
    ):
        ended = project.run(sys.executable, *arguments)
        assert ended.returncode == 0, ended.stdout
    server = f"{deployed.address}/api"
    ended = project.run(sys.executable, "-c", FLOWS.format(folder="generated/old"), PREFECT_API_URL=server)
    assert ended.returncode != 0
    *_, error = (line for line in ended.stdout.splitlines() if "FailedRun: " in line)  # Prefect may log more
    assert "generated/old" in error, ended.stdout
    assert len(list((project.root / "generated/by a flow/images").iterdir())) == 3
    assert json.loads((project.root / "ledger.jsonl").read_bytes().splitlines()[-1])["action"] == "rolled back"
    ended = project.run(sys.executable, "-m", "commands.preset", "mnist-dcgan")
    assert ended.returncode == 0, ended.stdout
    assert lost(files) == []
    assert not (training / "state.safetensors").exists()
