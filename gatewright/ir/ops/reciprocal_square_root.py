"""reciprocal_square_root: 1 / sqrt(x); at zero the largest value, below zero zero."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.operator import register
from gatewright.ir.unary import UnaryFunction


@register
@dataclass(frozen=True, slots=True)
class ReciprocalSquareRoot(UnaryFunction):
    """The function, correctly rounded into the result's format."""

    name = "reciprocal_square_root"
    aten = ("rsqrt.default",)
    function = "reciprocal_square_root"
    source = "torch.rsqrt({})"
