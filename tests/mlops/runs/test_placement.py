"""Which slots a stage needs; the GPUs are made up."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from gan_core.config import ComputeConfig
from mlops.project.params import Params
from mlops.runs import placement
from mlops.runs.placement import slots_of
from mlops.safety.slots import Slot


def with_processes(values: Params, device: str, threads: int, processes: int) -> Params:
    compute = ComputeConfig(device, threads)  # type: ignore[arg-type]  # one of its names
    return replace(values, compute=compute, execution=replace(values.execution, processes=processes))


@pytest.mark.parametrize(("threads", "processes", "slots"), [(1, 1, 8), (2, 1, 4), (2, 3, 1), (16, 1, 1)])
def test_cpu_slots_keep_all_cores_busy(
    threads: int, processes: int, slots: int, committed: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EQUILIBRIUM_SLOTS")
    monkeypatch.setattr(placement, "cores", lambda: 8)
    (choice,) = slots_of(with_processes(committed, "cpu", threads, processes))
    assert [slot.file for slot in choice] == [f"cpu-{number}" for number in range(slots)]


def test_a_training_needs_the_gpus_of_all_its_processes(committed: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid="dcba"[number]))
    needed = slots_of(with_processes(committed, "auto", 1, 2))
    assert needed == [[Slot("GPU 0", "gpu-d")], [Slot("GPU 1", "gpu-c")]]
