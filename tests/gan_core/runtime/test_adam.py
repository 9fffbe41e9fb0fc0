import pytest
import torch
from torch import nn

from gan_core.runtime.adam import Adam

INPUTS = torch.randn(8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def network(dtype: torch.dtype) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).to(dtype)


def numbers(step: int) -> tuple[float, float]:
    """Return the learning rate and beta2 of a step."""
    return 1e-2 / (1 + step), 0.9 + 0.005 * step


def descend(module: nn.Module, optimizer: Adam | torch.optim.Adam) -> None:
    optimizer.zero_grad()
    module(INPUTS.to(next(module.parameters()).dtype)).square().mean().backward()
    optimizer.step()


def by_torch(dtype: torch.dtype, *, fused: bool = False) -> tuple[nn.Module, torch.optim.Adam]:
    module = network(dtype)
    optimizer = torch.optim.Adam(module.parameters(), betas=(0.5, 0.9), fused=fused)
    for step in range(20):
        rate, beta2 = numbers(step)
        optimizer.param_groups[0] |= {"lr": rate, "betas": (0.5, beta2)}
        descend(module, optimizer)
    return module, optimizer


@pytest.mark.parametrize("fused", [False, True])
def test_parameters_and_moments_are_those_of_torchs_adam(fused: bool) -> None:
    ours, (theirs, optimizer) = network(torch.float32), by_torch(torch.float32, fused=fused)
    adam = Adam(ours, 1e-2, 0.5, 0.9, fused=fused)
    for step in range(20):
        adam.learning_rate, adam.beta2 = numbers(step)
        descend(ours, adam)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    states = optimizer.state_dict()["state"]
    expected = {f"{index}/{name}": value for index, state in states.items() for name, value in state.items()}
    assert adam.tensors().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in adam.tensors().items())


def test_it_moves_as_torchs_adam_while_both_numbers_are_tensors_that_change() -> None:
    ours, rate, beta2 = network(torch.float64), *(torch.zeros((), dtype=torch.float64) for _ in range(2))
    adam = Adam(ours, rate, 0.5, beta2)
    for step in range(20):
        for place, number in zip((rate, beta2), numbers(step), strict=True):
            place.fill_(number)
        descend(ours, adam)
    theirs, _ = by_torch(torch.float64)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)
