"""hardswish: x * clamp(x + 3, 0, 6) / 6."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.operator import register
from gatewright.ir.unary import UnaryFunction


@register
@dataclass(frozen=True, slots=True)
class HardSwish(UnaryFunction):
    """The function, correctly rounded into the result's format."""

    name = "hardswish"
    aten = ("hardswish.default",)
    function = "hardswish"
    source = "F.hardswish({})"
