"""The gradient of an operator, from PyTorch's own formula for the same function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor | None], gradient: Tensor
) -> list[Tensor | None]:
    """``gradient`` of ``function(*inputs)`` carried back to each input; None for those that need none.

    Where gradients are recorded (``create_graph=True``), the results have a gradient themselves.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views tell apart a tensor that is given twice.
        leaves = [
            each if each is None else each.view_as(each) if again else each.detach().requires_grad_() for each in inputs
        ]
        wanted = [each for each in leaves if each is not None and each.requires_grad]
        found = iter(torch.autograd.grad(function(*leaves), wanted, gradient, create_graph=again, allow_unused=True))
        return [next(found) if each is not None and each.requires_grad else None for each in leaves]
