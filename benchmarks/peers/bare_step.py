"""The upper bound on a GPU: a step on fixed images and fixed z, captured once and replayed, and nothing else."""

import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.functional import softplus
from torch.optim import Adam

from gan_core.config import NetworkConfig
from gan_core.networks.build import build_discriminator, build_generator


def bare_milliseconds(
    network: NetworkConfig, *, size: int, channels: int, batch_size: int, bf16: bool, compiled: bool, captured: bool
) -> float:
    """Return the time of a step with the non-saturating loss and Adam; without data loading, EMA or instruments.

    Args:
        network: of the convolutional family.
        size: of the images, pixels.
        channels: of the images.
        batch_size: B.
        bf16: whether networks are applied under autocast to bfloat16.
        compiled: whether they go through `torch.compile`.
        captured: whether the step is replayed as a CUDA graph.

    Returns:
        Milliseconds: the median of five times 300 steps.
    """
    step = _step(network, size, channels, batch_size, bf16, compiled)
    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        for _ in range(5):
            step()
    torch.cuda.synchronize()
    if not captured:
        return _median(step, 100)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=aside):
        step()
    return _median(graph.replay, 300)


def _step(
    network: NetworkConfig, size: int, channels: int, batch_size: int, bf16: bool, compiled: bool
) -> Callable[[], None]:
    cuda = torch.device("cuda")
    generator = build_generator(network, size=size, channels=channels, seed=0).to(cuda)
    discriminator = build_discriminator(network, size=size, channels=channels, seed=0).to(cuda)
    for player in (generator, discriminator):
        player.to(memory_format=torch.channels_last)
    d_adam, g_adam = _adam(discriminator), _adam(generator)
    generate, discriminate = (
        (torch.compile(generator), torch.compile(discriminator)) if compiled else (generator, discriminator)
    )
    real = torch.rand(batch_size, channels, size, size, device=cuda) * 2 - 1
    first, second = torch.randn(2, batch_size, network.z_dim, device=cuda)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16) if bf16 else nullcontext():
            with torch.no_grad():
                fake = generate(first).float()
            real_logits, fake_logits = discriminate(real).float(), discriminate(fake).float()
        d_adam.zero_grad()
        (softplus(-real_logits).mean() + softplus(fake_logits).mean()).backward()
        d_adam.step()
        discriminator.requires_grad_(False)
        with torch.autocast("cuda", torch.bfloat16) if bf16 else nullcontext():
            fake_logits = discriminate(generate(second).float()).float()
        g_adam.zero_grad()
        softplus(-fake_logits).mean().backward()
        g_adam.step()
        discriminator.requires_grad_(True)

    return step


def _adam(player: nn.Module) -> Adam:
    return Adam(player.parameters(), 2e-4, (0.5, 0.999), fused=True, capturable=True)


def _median(step: Callable[[], None], count: int) -> float:
    times = []
    for _ in range(5):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(count):
            step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - started) / count * 1e3)
    return sorted(times)[2]
