import pytest

from benchmarks.startup import LIBRARIES, table
from stages.__main__ import STAGES
from tests.test_startup import HEAVY, USES


def test_every_stage_is_measured_against_no_library_that_it_does_not_use() -> None:
    assert list(LIBRARIES) == list(STAGES)
    for stage, libraries in LIBRARIES.items():
        roots = {name.split(".")[0] for name in libraries.split()}
        heavy = {name.split(".")[0] for name in HEAVY}
        assert roots & heavy <= {name.split(".")[0] for name in USES[stage]}


@pytest.mark.slow
def test_a_row_says_how_long_a_command_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.startup.ROUNDS", 1)
    ((command, start, plain, ratio, libraries),) = table("commands.preset").rows
    assert command == "python -m commands.preset none"
    assert min(float(start), float(plain), float(ratio)) > 0
    assert libraries.startswith("pydantic, ruamel")
