"""tanh: the hyperbolic tangent."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.operator import register
from gatewright.ir.unary import UnaryFunction


@register
@dataclass(frozen=True, slots=True)
class Tanh(UnaryFunction):
    """The function, correctly rounded into the result's format."""

    name = "tanh"
    aten = ("tanh.default",)
    function = "tanh"
    source = "torch.tanh({})"
