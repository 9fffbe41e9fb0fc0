"""What is refused; a champion that is scored by new images is in tests/flows/retraining/test_flow.py."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from commands.rescore import _measured, rescore
from gan_core.config import MlpConfig
from gan_core.generation.generator_file import save_generator
from gan_core.networks.build import build_generator
from mlops.project.errors import UserError
from mlops.promotion.ledger import locked_ledger
from tests.decisions import write_params


def test_without_a_champion_there_is_nothing_to_score(root: Path) -> None:
    write_params(root, "gan-of-nobody")
    assert rescore() == "gan-of-nobody has no champion yet"
    with locked_ledger() as ledger:
        assert ledger.entries == []


@pytest.mark.parametrize(
    ("present", "words"),
    [
        ({"size": 16}, "8 pixels.* 16 pixels"),
        ({"channels": 3}, "1 channels.* 3 channels"),
        ({"classes": ["ant", "cow"]}, "ant, bee classes.* ant, cow classes"),
        ({"classes": None}, "ant, bee classes.* no classes"),
    ],
)
def test_a_champion_of_other_images_is_refused(present: dict[str, Any], words: str, tmp_path: Path) -> None:
    network = MlpConfig("mlp", 4, "normal", 8, 8, True, 2, 0.0)
    generator = build_generator(network, size=8, channels=1, classes=2, seed=0)
    save_generator(tmp_path / "g", generator, network, size=8, channels=1, classes=["ant", "bee"])
    summary = SimpleNamespace(**{"size": 8, "channels": 1, "classes": ["ant", "bee"]} | present)
    with pytest.raises(UserError, match=words):
        _measured(cast(Any, SimpleNamespace(summary=summary)), tmp_path / "g")
