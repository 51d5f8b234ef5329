"""softplus: log(1 + exp(x))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.operator import register
from gatewright.ir.types import Value
from gatewright.ir.unary import UnaryFunction

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall


@register
@dataclass(frozen=True, slots=True)
class Softplus(UnaryFunction):
    """The function, correctly rounded into the result's format; other forms than beta 1 are refused."""

    name = "softplus"
    aten = ("softplus.default",)
    function = "softplus"
    source = "F.softplus({})"

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        if float(call["beta"]) != 1.0:
            raise call.refused("only beta 1 is supported", help="use beta 1, and scale before and after it")
        return call.builder.add(cls(), call.value("self"))
