"""gelu: x times the normal distribution's cumulative probability, in its erf form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.operator import register
from gatewright.ir.ops.gelu_tanh import GeluTanh
from gatewright.ir.types import Value
from gatewright.ir.unary import UnaryFunction

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall


@register
@dataclass(frozen=True, slots=True)
class Gelu(UnaryFunction):
    """The function, correctly rounded into the result's format; the import chooses between its two forms."""

    name = "gelu"
    aten = ("gelu.default",)
    function = "gelu"
    source = "F.gelu({})"

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        form = GeluTanh if call["approximate"] == "tanh" else cls
        return call.builder.add(form(), call.value("self"))
