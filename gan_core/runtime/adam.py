"""Adam for a captured step."""

import torch
from torch import Tensor, nn
from torch.optim import Adam


class TensorAdam(Adam):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1) whose learning rate and beta2 are tensors.

    A captured CUDA graph reads both anew. torch's Adam takes a beta2 that changes as a number if it is fused, and else
    copies the tensor to the CPU in every step, which a capture forbids. State and checkpoints are those of torch's.
    """

    def __init__(self, network: nn.Module, learning_rate: Tensor, beta1: float, beta2: Tensor) -> None:
        super().__init__(network.parameters(), learning_rate, (beta1, beta2.item()), capturable=True)
        self.param_groups[0]["betas"] = (beta1, beta2)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure
        """Move parameters that have a gradient: p <- p - rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)."""
        (group,) = self.param_groups
        parameters, gradients, means, squares, counts = (list[Tensor]() for _ in range(5))
        self._init_group(group, parameters, gradients, means, squares, [], counts)  # type: ignore[no-untyped-call]
        (beta1, beta2), rate = group["betas"], group["lr"]
        torch._foreach_add_(counts, 1)
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_add_(squares, torch._foreach_mul(torch._foreach_mul(gradients, gradients), 1 - beta2))
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, (1 - beta2 ** counts[0]).sqrt())
        torch._foreach_add_(roots, group["eps"])
        moves = torch._foreach_div(means, roots)
        torch._foreach_mul_(moves, rate / (1 - beta1 ** counts[0]))
        torch._foreach_sub_(parameters, moves)
