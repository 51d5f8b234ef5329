"""mish: x * tanh(log(1 + exp(x)))."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.operator import register
from gatewright.ir.unary import UnaryFunction


@register
@dataclass(frozen=True, slots=True)
class Mish(UnaryFunction):
    """The function, correctly rounded into the result's format."""

    name = "mish"
    aten = ("mish.default",)
    function = "mish"
    source = "F.mish({})"
