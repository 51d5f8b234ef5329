"""Runs the PyTorch texts of imported operators, so that a misread call is found at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F

from gatewright.backends.torch import runtime
from gatewright.backends.torch.texts import operation_text
from gatewright.ir.graph import Node
from gatewright.ir.ops.constant import Constant
from gatewright.ir.types import Value

RELATIVE_TOLERANCE = 1e-8
"""Both sides are computed in float64 from equal operands, so that only the order of sums differs."""


_SCOPE: dict[str, Any] = {"torch": torch, "F": F, "gw": runtime, "self": SimpleNamespace(training=False)}


def run_text(node: Node, values: dict[Value, torch.Tensor], streams: set[Value]) -> torch.Tensor:
    """The node's value in float64 by its PyTorch text; ``values`` holds its operands, batch leading."""
    if isinstance(node.op, Constant):
        return torch.from_numpy(np.array(node.op.data.array, dtype=np.float64))
    names = {f"x{position}": values[operand] for position, operand in enumerate(node.inputs)}
    text = operation_text(node, list(names), streams)
    # The text is the operator's own, made from checked attributes: no user text is in it.
    found = cast(torch.Tensor, eval(text, _SCOPE | names))  # noqa: S307
    # A cast gives float32 where that holds its format.
    return found.double() if found.is_floating_point() else found


def agrees(found: torch.Tensor, expected: torch.Tensor, scale: float) -> bool:
    """Whether two results are equal but for rounding; ``scale`` is the operands' largest magnitude."""
    if found.shape != expected.shape:
        return False
    expected = expected.double()
    finite = expected[torch.isfinite(expected)]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    tolerance = RELATIVE_TOLERANCE * (1.0 + largest + scale)
    return bool(torch.allclose(found.double(), expected, rtol=0.0, atol=tolerance, equal_nan=True))
