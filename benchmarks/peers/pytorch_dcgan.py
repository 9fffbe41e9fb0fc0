"""The training loop of pytorch/examples `dcgan/main.py` on given networks and images.

Its data loading (PIL images, torchvision's transforms, a shuffling DataLoader with 2 workers), its Adam, its order of
backward passes, its reading of losses at every step and its pictures every 100 steps are kept. Networks and batch size
are ours, and what it prints at every step goes to a file.
"""

import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms, utils  # type: ignore[import-untyped]


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as `torchvision.datasets.MNIST` returns them: bytes in memory, a PIL image, then the transforms."""

    def __init__(self, pixels: Tensor) -> None:
        channels, size = pixels.shape[1:3]
        self.pixels = pixels
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.Resize(size),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * channels, (0.5,) * channels),
            ]
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pixels[index]), 0


def peer_speed(
    discriminator: nn.Module,
    generator: nn.Module,
    pixels: Tensor,
    *,
    z_dim: int,
    batch_size: int,
    steps: int,
    warm_up: int,
    workers: int,
    device: torch.device,
) -> float:
    """Return the images per second of the peer's loop.

    Args:
        discriminator: maps images to logits (B,).
        generator: maps z (B, Z) to images.
        pixels: (N, C, H, W) uint8, the training images.
        z_dim: Z.
        batch_size: B.
        steps: that are timed.
        warm_up: steps before these.
        workers: of its data loader.
        device: where it trains.

    Returns:
        Real images per second.
    """
    net_d, net_g = nn.Sequential(discriminator, nn.Sigmoid()).to(device), generator.to(device)
    loader = DataLoader(Pictures(pixels), batch_size=batch_size, shuffle=True, num_workers=workers)
    batches = _epochs(loader, batch_size)
    with TemporaryDirectory() as name, (Path(name) / "log").open("w") as log, redirect_stdout(log):
        loop = _loop(net_d, net_g, batches, z_dim, device, Path(name))
        for _ in range(warm_up):
            next(loop)
        started = time.perf_counter()
        for _ in range(steps):
            next(loop)
        return steps * batch_size / (time.perf_counter() - started)


def _epochs(loader: DataLoader[tuple[Tensor, int]], batch_size: int) -> Iterator[Tensor]:
    while True:
        for images, _ in loader:
            if len(images) == batch_size:
                yield images


def _loop(
    net_d: nn.Module, net_g: nn.Module, batches: Iterator[Tensor], z_dim: int, device: torch.device, folder: Path
) -> Iterator[None]:
    criterion = nn.BCELoss()
    fixed_noise = torch.randn(64, z_dim, device=device)
    optimizer_d = optim.Adam(net_d.parameters(), lr=0.0002, betas=(0.5, 0.999))
    optimizer_g = optim.Adam(net_g.parameters(), lr=0.0002, betas=(0.5, 0.999))
    for i, real_cpu in enumerate(batches):
        # (1) Update D network: maximize log(D(x)) + log(1 - D(G(z)))
        net_d.zero_grad()
        real = real_cpu.to(device)
        label = torch.full((len(real),), 1, dtype=real.dtype, device=device)
        output = net_d(real)
        err_d_real = criterion(output, label)
        err_d_real.backward()
        d_x = output.mean().item()
        fake = net_g(torch.randn(len(real), z_dim, device=device))
        label.fill_(0)
        output = net_d(fake.detach())
        err_d_fake = criterion(output, label)
        err_d_fake.backward()
        d_g_z1 = output.mean().item()
        err_d = err_d_real + err_d_fake
        optimizer_d.step()

        # (2) Update G network: maximize log(D(G(z)))
        net_g.zero_grad()
        label.fill_(1)
        output = net_d(fake)
        err_g = criterion(output, label)
        err_g.backward()
        d_g_z2 = output.mean().item()
        optimizer_g.step()

        print(
            f"[{i}] Loss_D: {err_d.item():.4f} Loss_G: {err_g.item():.4f} D(x): {d_x:.4f} {d_g_z1:.4f} / {d_g_z2:.4f}"
        )
        if i % 100 == 0:
            utils.save_image(real, folder / "real_samples.png", normalize=True)
            utils.save_image(net_g(fixed_noise).detach(), folder / "fake_samples.png", normalize=True)
        yield
