"""square_root: the square root; negative operands give zero."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.operator import register
from gatewright.ir.unary import UnaryFunction


@register
@dataclass(frozen=True, slots=True)
class SquareRoot(UnaryFunction):
    """The function, correctly rounded into the result's format."""

    name = "square_root"
    aten = ("sqrt.default",)
    function = "square_root"
    source = "torch.sqrt({})"
