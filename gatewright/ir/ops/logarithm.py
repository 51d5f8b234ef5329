"""logarithm: the natural logarithm; at zero the lowest value, below zero zero."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.operator import register
from gatewright.ir.unary import UnaryFunction


@register
@dataclass(frozen=True, slots=True)
class Logarithm(UnaryFunction):
    """The function, correctly rounded into the result's format."""

    name = "logarithm"
    aten = ("log.default",)
    function = "logarithm"
    source = "torch.log({})"
