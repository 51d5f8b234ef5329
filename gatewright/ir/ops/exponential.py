"""exponential: e to the power of x."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.operator import register
from gatewright.ir.unary import UnaryFunction


@register
@dataclass(frozen=True, slots=True)
class Exponential(UnaryFunction):
    """The function, correctly rounded into the result's format."""

    name = "exponential"
    aten = ("exp.default",)
    function = "exponential"
    source = "torch.exp({})"
