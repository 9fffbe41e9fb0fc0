import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from gan_core.augmentation.augment import NONE
from gan_core.config import AugmentationConfig, ComputeConfig, DiffAugmentConfig, DoctorConfig
from mlops.project.errors import UserError
from mlops.project.params import Params
from stages.diagnose import diagnose
from stages.extractor import extractor
from tests.stages.test_train import Train, killed_after, run_of

CPU = ComputeConfig("cpu", 1)
Examine = Callable[..., None]


@pytest.fixture
def examine(root: Path, prepared: Path, committed: Params) -> Examine:
    """Return a function that diagnoses a training into a folder of the name beside it."""
    extractor(prepared, root / "extractor", compute=CPU, extractor=replace(committed.extractor, epochs=1))

    def run(folder: Path, name: str, doctor: DoctorConfig, augmentation: AugmentationConfig = NONE) -> None:
        inputs = prepared, root / "extractor", folder / "generator.safetensors", folder / "training"
        diagnose(*inputs, folder / name, compute=CPU, augmentation=augmentation, doctor=doctor)

    return run


def test_what_only_pictures_show_is_the_verdict_on_a_training_whose_readings_are_good(
    train_tiny: Train, examine: Examine, committed: Params
) -> None:
    folder = train_tiny("whole")
    lenient = replace(
        committed.doctor, min_images=0, grace=0.0, min_variety=0.0, max_lead=1.0, min_signal=0.0, min_gap=1.0
    )
    lenient = replace(lenient, min_spacing=0.0, max_spectral_distance=1.0, max_kid_to_trivial=1e9)
    expected = {
        "healthy": lenient,
        "repeated images": replace(lenient, min_spacing=1e9),
        "spectral artefacts": replace(lenient, max_spectral_distance=0.0),
        "ragged pictures": replace(lenient, max_kid_to_trivial=0.0),
        "too early to say": replace(lenient, min_spacing=1e9, min_images=10**6),
    }
    for name, doctor in expected.items():
        examine(folder, name, doctor)
        assert json.loads((folder / name / "diagnosis.json").read_text())["verdict"] == name


def test_a_leak_is_looked_for_in_the_pictures_of_an_augmented_training_alone(
    train_tiny: Train, examine: Examine, committed: Params
) -> None:
    folder = train_tiny("whole")
    policy = DiffAugmentConfig("diffaugment", color=True, translation=True, cutout=True)
    lenient = replace(committed.doctor, min_images=0, grace=0.0, min_variety=0.0, max_lead=1.0, min_gap=1.0)
    lenient = replace(lenient, min_signal=0.0, min_spacing=0.0, max_spectral_distance=1.0, max_kid_to_trivial=1e9)
    lenient = replace(lenient, max_leaked=1e9)
    for name, augmentation in (("none", NONE), ("all", policy), ("moved", replace(policy, cutout=False))):
        examine(folder, name, lenient, augmentation)
        evidence = json.loads((folder / name / "diagnosis.json").read_text())["evidence"]
        assert ("leaked" in evidence) == (name == "all")


def test_a_finished_training_has_a_verdict_with_a_picture(
    train_tiny: Train, examine: Examine, committed: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_tiny("whole")
    for name in ("one", "two"):
        examine(folder, name, replace(committed.doctor, min_images=0))
    found = json.loads((folder / "one" / "diagnosis.json").read_text())
    assert set(found) == {"verdict", "step", "sentence", "remedy", "evidence"}
    assert capsys.readouterr().out.count(f"doctor: {found['sentence']}") == 2
    with Image.open(folder / "one" / "instruments.png") as picture:
        assert picture.size == (1200, 1350)
    for file in ("diagnosis.json", "instruments.png"):
        assert (folder / "one" / file).read_bytes() == (folder / "two" / file).read_bytes()


def test_a_short_training_with_one_report_is_not_stalled_by_its_planned_decay(
    train_tiny: Train, examine: Examine, committed: Params
) -> None:
    folder = train_tiny("rare", report_every=1000)
    examine(folder, "diagnosis", replace(committed.doctor, min_update=1e-4))
    assert json.loads((folder / "diagnosis" / "diagnosis.json").read_text())["verdict"] != "stalled"


@pytest.fixture
def stalled(train_tiny: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that trains with a generator that stands still, under a doctor with given changes."""

    def run(name: str, **doctor: object) -> Path:
        return train_tiny(name, generator_learning_rate=1e-30, seed=11, doctor=doctor)

    return run


def test_a_failure_is_a_warning_while_training_and_a_tag_in_mlflow(
    stalled: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = run_of(stalled("stalled"))
    assert capsys.readouterr().err.count("warning: stalled, seen since step 8: ") == 1
    assert run.data.tags["doctor.verdict"] == "stalled"
    assert run.data.tags["doctor.sentence"].startswith("stalled, seen since step 8")


def test_the_doctor_ends_a_training_on_collapse_if_told_to_and_nothing_is_lost(
    train_tiny: Callable[..., Path], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"seed": 12, "checkpoint_every": 2}
    with pytest.raises(UserError, match=r"doctor\.stop .*step 8"):
        train_tiny("stopped", doctor={"stop": True, "min_variety": 1e9}, **changes)
    assert any((root / ".checkpoints").rglob("state.safetensors"))
    train_tiny("whole", doctor={"min_variety": 1e9}, **changes)
    assert "going on from step 6 of 24" in capsys.readouterr().out


def test_a_resumed_training_knows_what_was_seen_before(
    stalled: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_after(14, monkeypatch):
        stalled("stopped")
    _, run = run_of(stalled("resumed"))
    assert run.data.tags["doctor.sentence"].startswith("stalled, seen since step 8")
