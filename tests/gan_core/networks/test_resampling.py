import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from gan_core.networks.resampling import downsampled, pyramid, upsampled
from gan_core.runtime.randomness import stream

TAPS = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8


def maps(height: int = 6, width: int = 4) -> Tensor:
    shape = (2, 3, height, width)
    return torch.randn(shape, generator=stream(0, "maps"), dtype=torch.float64).requires_grad_()


def test_up_and_down_are_the_filter_of_the_paper() -> None:
    kernel = (TAPS[:, None] * TAPS).expand(3, 1, 4, 4)
    up = conv_transpose2d(maps(), 4 * kernel, stride=2, padding=1, groups=3)
    assert torch.allclose(upsampled(maps()), up, rtol=1e-14, atol=1e-14)
    down = conv2d(maps(), kernel, stride=2, padding=1, groups=3)
    assert torch.allclose(downsampled(maps()), down, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("resampled", [upsampled, downsampled])
def test_gradients_of_both_orders_are_those_of_finite_differences(resampled: type[Tensor]) -> None:
    assert torch.autograd.gradcheck(resampled, maps(2, 4), fast_mode=True)
    assert torch.autograd.gradgradcheck(resampled, maps(2, 4), fast_mode=True)


def test_a_constant_stays_itself_inside() -> None:
    ones = torch.ones(1, 1, 8, 8)
    assert torch.equal(upsampled(ones)[..., 1:-1, 1:-1], torch.ones(1, 1, 14, 14))
    assert torch.equal(downsampled(ones)[..., 1:-1, 1:-1], torch.ones(1, 1, 2, 2))


def test_under_autocast_the_type_of_the_maps_stays() -> None:
    for dtype in (torch.bfloat16, torch.float32):
        x = maps().detach().to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            results = [upsampled(x), downsampled(x)]
        assert [result.dtype for result in results] == [dtype] * 2
        (gradient,) = torch.autograd.grad(results[1].sum(), x)
        assert gradient.dtype == dtype


@pytest.mark.parametrize(
    ("width", "size", "widths"),
    [
        (768, 32, [768] * 4),
        (768, 64, [768] * 4 + [384]),
        (768, 256, [768] * 4 + [384, 192, 96]),
        (1536, 32, [1536] * 4),
        (32, 8, [32, 32]),
        (24, 256, [24] * 4 + [8, 8, 8]),  # 12, 6 and 3 by the rule
    ],
)
def test_widths_are_those_of_the_published_networks(width: int, size: int, widths: list[int]) -> None:
    assert pyramid(width, size) == widths
