"""divide: division as multiplication; a rule of the import only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.operator import Operator, broadcast_shape, register
from gatewright.ir.ops.mul import Mul
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall


@register
@dataclass(frozen=True, slots=True)
class Divide(Operator):
    """``a / b``. Never in a graph: the import makes it a product with a reciprocal.

    The reciprocal of a constant is a constant; that of a stream is a function with its own cast.
    """

    name = "divide"
    aten = (
        "div.Tensor",
        "div.Scalar",
        "divide.Tensor",
        "true_divide.Tensor",
        "div.Tensor_mode",
        "div.Scalar_mode",
    )

    def infer_shape(self, *shapes: Shape) -> Shape:
        return broadcast_shape(self.name, shapes)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        mode = call.get("rounding_mode")
        if mode is not None:
            raise call.refused(
                f"rounding_mode={mode!r} drops the fraction",
                note="values are real numbers until a format is chosen; roundings are casts",
                help='leave it out, and round with torch.ops.gatewright.cast(x, "fixed<8,0> floor")',
            )
        first, second = call.broadcast("self", "other")
        array = call.builder.constant_of(second)
        if array is None:
            from gatewright.ir.ops.reciprocal import Reciprocal

            inverse = call.builder.add(Reciprocal(), second, name=call.named("reciprocal"))
            return call.builder.add(Mul(), first, inverse)
        if bool((array == 0.0).any()):
            raise call.refused(
                "the divisor is zero",
                note="every result would be infinite or NaN",
                help="divide by a number that is not zero",
            )
        return call.builder.add(Mul(), first, call.builder.parameter("", 1.0 / array, trainable=False))
