import torch
from torch import nn
from torch.optim import Adam

from gan_core.runtime.adam import TensorAdam


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()


def test_it_moves_as_torchs_adam_while_both_numbers_change() -> None:
    ours, theirs = network(), network()
    rate, beta2 = (torch.tensor(value, dtype=torch.float64) for value in (1e-2, 0.9))
    by_tensors, by_numbers = TensorAdam(ours, rate, 0.5, beta2), Adam(theirs.parameters(), 1e-2, (0.5, 0.9))
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for step in range(20):
        now = 1e-2 / (1 + step), 0.9 + 0.005 * step
        rate.fill_(now[0])
        beta2.fill_(now[1])
        by_numbers.param_groups[0] |= {"lr": now[0], "betas": (0.5, now[1])}
        for module, optimizer in ((ours, by_tensors), (theirs, by_numbers)):
            optimizer.zero_grad()
            module(inputs).square().mean().backward()
            optimizer.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)
    states = (by_tensors.state_dict()["state"], by_numbers.state_dict()["state"])
    assert [{*moments} for moments in states[0].values()] == [{*moments} for moments in states[1].values()]
