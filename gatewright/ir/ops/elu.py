"""elu: x where it is positive, else exp(x) - 1."""

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
class Elu(UnaryFunction):
    """The function, correctly rounded into the result's format; other forms than alpha 1 are refused."""

    name = "elu"
    aten = ("elu.default",)
    function = "elu"
    source = "F.elu({})"

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        if any(float(call[name]) != 1.0 for name in ("alpha", "scale", "input_scale")):
            raise call.refused("only alpha 1 is supported", help="use nn.ELU(), or a leaky ReLU")
        return call.builder.add(cls(), call.value("self"))
