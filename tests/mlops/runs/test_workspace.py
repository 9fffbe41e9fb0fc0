from pathlib import Path

import pytest

from mlops.runs.workspace import Workspace, training_key


@pytest.mark.parametrize(
    ("parameters", "data_md5", "made_by"),
    [
        ({"train": {"seed": 1}}, "a", {"torch": "2", "device": "cpu"}),
        ({"train": {"seed": 0}}, "b", {"torch": "2", "device": "cpu"}),
        ({"train": {"seed": 0}}, "a", {"torch": "3", "device": "cpu"}),
        ({"train": {"seed": 0}}, "a", {"torch": "2", "device": "cuda"}),
    ],
)
def test_all_that_bits_depend_on_is_in_the_key(
    parameters: dict[str, dict[str, int]], data_md5: str, made_by: dict[str, str]
) -> None:
    key = training_key({"train": {"seed": 0}}, "a", {"device": "cpu", "torch": "2"})
    assert key == training_key({"train": {"seed": 0}}, "a", {"torch": "2", "device": "cpu"})
    assert key != training_key(parameters, data_md5, made_by)


def test_a_row_torn_inside_its_step_is_dropped(root: Path) -> None:
    with Workspace("torn") as work:
        work.history.write_text("step,loss\n20,0.5\n40,0.25\n4")  # of 420,...
        with work.open_history(["step", "loss"], keep_to=40) as rows:
            rows.writerow({"step": 60, "loss": 0.125})
        assert work.history.read_text() == "step,loss\n20,0.5\n40,0.25\n60,0.125\n"
