"""filled: the import of calls that fill a tensor like another; the result is a constant."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.operator import Operator, register


@register
@dataclass(frozen=True, slots=True)
class Filled(Operator):
    """A constant with a stream's shape. Never in a graph: the import computes it."""

    name = "filled"
    aten = (
        "zeros_like.default",
        "ones_like.default",
        "full_like.default",
        "new_zeros.default",
        "new_ones.default",
        "new_full.default",
        "fill.Scalar",
        "fill.Tensor",
    )
    ignores_values = True
