"""A printed module's inference on the GPU by the kernels of its integer graph.

In evaluation without gradients the forward of a module on a CUDA device may as well be the golden model: both
have the same values. Weights that change make the kernels anew: in place, by assignment, or in whatever way before a
call that trains or records gradients. A write through ``.data`` between two evaluations is seen by nobody.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from gatewright.backends.torch.build import with_weights
from gatewright.backends.triton.golden import GoldenProgram
from gatewright.diagnostics import GatewrightError
from gatewright.ir.graph import Graph
from gatewright.ir.transforms.legalise import legalise
from gatewright.kernels import device


class Inference:
    """Runs a module's forward as kernels where that gives the same tensors; ``graph`` is its quantised graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.program: GoldenProgram | None = None
        self._weights: tuple[Any, ...] | None = None
        self._held: list[Tensor] = []
        self._dtypes: dict[tuple[torch.dtype, ...], tuple[torch.dtype, ...] | None] = {}

    def serves(self, module: nn.Module, inputs: tuple[Any, ...]) -> bool:
        """Whether a call can go to the kernels: evaluation, no gradient, tensors of the right shape on the GPU."""
        if module.training or torch.is_grad_enabled() or not device.HAS_TRITON:
            self._weights = None  # whatever trains may write through `.data`, which no version counts
            return False
        ports = self.graph.inputs
        return len(inputs) == len(ports) and all(
            isinstance(each, Tensor) and each.is_cuda and each.shape[1:] == value.shape and len(each)
            for each, value in zip(inputs, ports, strict=True)
        )

    def __call__(
        self, forward: Callable[..., Any], module: nn.Module, inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...] | Tensor | None:
        """What ``forward`` returns, by the kernels; None and a warning where the weights have no integer form."""
        self._follow(module)
        if self.program is None:
            return None
        key = tuple(each.dtype for each in inputs)
        if key not in self._dtypes:
            self._dtypes[key] = _dtypes(forward(module, *(each[:1] for each in inputs)))
        dtypes = self._dtypes[key]
        if dtypes is None:
            return None
        outputs = tuple(each.to(dtype) for each, dtype in zip(self.program(*inputs), dtypes, strict=True))
        return outputs[0] if len(outputs) == 1 else outputs

    def _follow(self, module: nn.Module) -> None:
        """Make the program of the weights that the module has now."""
        held = [*module.parameters(), *module.buffers()]
        weights = tuple((id(each), 0 if each.is_inference() else each._version, each.data_ptr()) for each in held)
        if weights == self._weights:
            return
        self._weights, self._held = weights, held
        try:
            graph = with_weights(self.graph, module)
            self.program = GoldenProgram(graph, legalise(graph))
        except GatewrightError as failure:
            self.program = None
            warnings.warn(
                f"the weights that the module has now have no integer form, so PyTorch computes it, not the kernels of "
                f"its graph\n{failure}",
                stacklevel=2,
            )


def _dtypes(outputs: object) -> tuple[torch.dtype, ...] | None:
    """The outputs' types; None where they are not a tensor or a tuple of tensors."""
    listed = cast(tuple[object, ...], outputs) if isinstance(outputs, tuple) else (outputs,)
    found = [each.dtype for each in listed if isinstance(each, Tensor)]
    return tuple(found) if len(found) == len(listed) else None
