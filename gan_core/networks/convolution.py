"""Convolutions whose gradients of every order are convolutions that libraries have kernels for.

The sum over positions of g (w * x) is linear in each of the three, and its derivative by one of them is a convolution
by x, by w or by g: what backpropagation through a layer computes. So the three close under differentiation. torch
derives second derivatives, which gradient penalties take, from other convolutions, group by group; these here take
about half of their time on a CPU.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d


class Geometry(NamedTuple):
    """Stride, padding and groups of a convolution."""

    stride: int
    padding: int
    groups: int


class Convolution(nn.Conv2d):
    """torch's convolution of square kernels; other gradients of it are computed faster, see above."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D, H', W') for x (B, C, H, W)."""
        return self.convolved(x, self.weight)

    def convolved(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the same with a weight in the place of the module's own."""
        parts = map(lowered, [x, weight, *([] if self.bias is None else [self.bias])])
        geometry = Geometry(self.stride[0], int(self.padding[0]), self.groups)
        result: Tensor = _Convolution.apply(geometry, *parts)
        return result


def lowered(x: Tensor) -> Tensor:
    """Return x in the type in which convolutions compute here: bfloat16 under autocast, else its own."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class _Convolution(torch.autograd.Function):
    """W * x, and a bias for each channel if there is one."""

    @staticmethod
    def forward(context: Any, geometry: Geometry, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        context.save_for_backward(x, weight)
        context.geometry = geometry
        with torch.autocast(x.device.type, enabled=False):
            return conv2d(x, weight, bias, *geometry[:2], 1, geometry.groups)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (gradient,), geometry = context.saved_tensors, gradients, context.geometry
        _, by_x, by_weight, *by_bias = context.needs_input_grad
        return (
            None,
            _ByInput.apply(geometry, gradient, weight, x.shape) if by_x else None,
            _ByWeight.apply(geometry, gradient, x, weight.shape) if by_weight else None,
            *(gradient.sum(dim=(0, 2, 3)) if needed else None for needed in by_bias),
        )


class _ByInput(torch.autograd.Function):
    """The derivative of <g, W * x> by x."""

    @staticmethod
    def forward(context: Any, geometry: Geometry, gradient: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        context.save_for_backward(gradient, weight)
        context.geometry = geometry
        x = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last)
        return _gradients(gradient, x, weight, geometry, 0)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient, weight), (x,), geometry = context.saved_tensors, gradients, context.geometry
        _, by_gradient, by_weight, _ = context.needs_input_grad
        return (
            None,
            _Convolution.apply(geometry, x, weight) if by_gradient else None,
            _ByWeight.apply(geometry, gradient, x, weight.shape) if by_weight else None,
            None,
        )


class _ByWeight(torch.autograd.Function):
    """The derivative of <g, W * x> by W."""

    @staticmethod
    def forward(context: Any, geometry: Geometry, gradient: Tensor, x: Tensor, shape: torch.Size) -> Tensor:
        context.save_for_backward(gradient, x)
        context.geometry = geometry
        weight = x.new_empty(1).expand(shape)  # only its shape is read
        return _gradients(gradient, x, weight, geometry, 1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient, x), (weight,), geometry = context.saved_tensors, gradients, context.geometry
        _, by_gradient, by_x, _ = context.needs_input_grad
        return (
            None,
            _Convolution.apply(geometry, x, weight) if by_gradient else None,
            _ByInput.apply(geometry, gradient, weight, x.shape) if by_x else None,
            None,
        )


def _gradients(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, index: int) -> Tensor:
    """Return the derivative by x (`index` 0) or by the weight (1)."""
    stride, padding, groups = geometry
    sides = ([stride] * 2, [padding] * 2, [1] * 2)
    wanted = [index == 0, index == 1, False]
    found = torch.ops.aten.convolution_backward(gradient, x, weight, None, *sides, False, [0, 0], groups, wanted)
    result: Tensor = found[index]
    return result
