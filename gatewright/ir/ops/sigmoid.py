"""sigmoid: 1 / (1 + exp(-x))."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.operator import register
from gatewright.ir.unary import UnaryFunction


@register
@dataclass(frozen=True, slots=True)
class Sigmoid(UnaryFunction):
    """The function, correctly rounded into the result's format."""

    name = "sigmoid"
    aten = ("sigmoid.default",)
    function = "sigmoid"
    source = "torch.sigmoid({})"
