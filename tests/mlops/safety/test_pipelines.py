import shutil
from pathlib import Path

import pytest
import yaml

from mlops.safety.pipelines import DENSITIES, MAIN, load_yaml, nothing_to_do, stage_outputs

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("pipeline", [MAIN, DENSITIES], ids=str)
def test_the_outputs_are_those_of_the_lock(pipeline: Path) -> None:
    stages = yaml.safe_load((ROOT / pipeline).with_suffix(".lock").read_text())["stages"]
    locked = {name: sorted(out["path"] for out in stage["outs"]) for name, stage in stages.items()}
    assert {name: sorted(map(str, paths)) for name, paths in stage_outputs(ROOT / pipeline).items()} == locked


def test_a_changed_parameter_code_or_lock_and_a_missing_output_are_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", "dvc.lock", "params.yaml"):
        shutil.copy(ROOT / name, name)
    values = load_yaml(Path("params.yaml"))
    assert not nothing_to_do(MAIN, values)
    for paths in stage_outputs(MAIN).values():
        for path in paths:
            path.mkdir(parents=True)
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    for name, stage in lock["stages"].items():
        stage["deps"] = [{"path": f"reports/digests/{name}.json", "md5": "d41d8cd98f00b204e9800998ecf8427e"}]
        Path("reports/digests", f"{name}.json").write_bytes(b"")
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert nothing_to_do(MAIN, values)
    assert not nothing_to_do(MAIN, values | {"evaluate": values["evaluate"] | {"banks": 99}})
    Path("reports/digests/train.json").write_bytes(b"x")
    assert not nothing_to_do(MAIN, values)
    Path("reports/digests/train.json").write_bytes(b"")
    Path("models/replicas").rmdir()
    assert not nothing_to_do(MAIN, values)
