"""Adam."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

EPSILON = 1e-8
_adam = partial(adam, eps=EPSILON, weight_decay=0.0, amsgrad=False, maximize=False, foreach=False)


class Adam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1) by torch's function of that name.

    It has what a training needs of `torch.optim.Adam`, which imports torch's compiler: seconds of every process. Here
    learning rate and beta2 may be tensors, which a captured CUDA graph reads anew. torch takes a beta2 that changes as
    a number if it is fused, and else copies the tensor to the CPU in every step, which a capture forbids.

    `means` and `squares` are the averages m and v of gradients and of their squares, `counts` the steps t; `fused` is
    one kernel for all parameters, which rounds differently on a CPU.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float | Tensor,
        beta1: float = 0.9,
        beta2: float | Tensor = 0.999,
        *,
        fused: bool = False,
    ) -> None:
        self.learning_rate, self.beta1, self.beta2, self.fused = learning_rate, beta1, beta2, fused
        self.parameters: list[Tensor] = list(network.parameters())
        self.means, self.squares = ([torch.zeros_like(one) for one in self.parameters] for _ in range(2))
        self.counts = [torch.zeros((), device=one.device if fused else "cpu") for one in self.parameters]

    def tensors(self) -> dict[str, Tensor]:
        """Return all that changes from step to step, under the names of torch's, such as `0/exp_avg`."""
        kinds = {"step": self.counts, "exp_avg": self.means, "exp_avg_sq": self.squares}
        return {f"{index}/{kind}": tensor for kind, tensors in kinds.items() for index, tensor in enumerate(tensors)}

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move all parameters by their gradients: p <- p - rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)."""
        parameters, means, squares, counts = self.parameters, self.means, self.squares, self.counts
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        assert len(gradients) == len(parameters), "a parameter has no gradient"
        beta1, beta2, rate = self.beta1, self.beta2, self.learning_rate
        if not isinstance(beta2, Tensor):
            state = (parameters, gradients, means, squares, list[Tensor](), counts)
            _adam(*state, fused=self.fused, lr=rate, beta1=beta1, beta2=beta2)
            return
        torch._foreach_add_(counts, 1)
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_add_(squares, torch._foreach_mul(torch._foreach_mul(gradients, gradients), 1 - beta2))
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, (1 - beta2 ** counts[0]).sqrt())
        torch._foreach_add_(roots, EPSILON)
        moves = torch._foreach_div(means, roots)
        torch._foreach_mul_(moves, rate / (1 - beta1 ** counts[0]))
        torch._foreach_sub_(parameters, moves)
