"""reciprocal: 1 / x; at zero the largest value of the result format."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.operator import register
from gatewright.ir.unary import UnaryFunction


@register
@dataclass(frozen=True, slots=True)
class Reciprocal(UnaryFunction):
    """The function, correctly rounded into the result's format."""

    name = "reciprocal"
    aten = ("reciprocal.default",)
    function = "reciprocal"
    source = "torch.reciprocal({})"
