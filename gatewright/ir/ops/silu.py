"""silu: x * sigmoid(x), also called swish."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.operator import register
from gatewright.ir.unary import UnaryFunction


@register
@dataclass(frozen=True, slots=True)
class Silu(UnaryFunction):
    """The function, correctly rounded into the result's format."""

    name = "silu"
    aten = ("silu.default",)
    function = "silu"
    source = "F.silu({})"
