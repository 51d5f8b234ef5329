"""leaky_relu: negative values are scaled by a slope."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.expressions import Term
from gatewright.ir.operator import Operator, Sample, broadcast_shape, register
from gatewright.ir.ops.parameter_reshape import reshaped_parameter
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class LeakyRelu(Operator):
    """``x`` where it is positive, else ``x * slope``; the slope is a constant operand with its own cast.

    A learnt slope per channel (PReLU) has the shape that broadcasts over the operand.
    """

    name = "leaky_relu"
    aten = ("leaky_relu.default", "prelu.default")
    roles = (None, "weight")

    def infer_shape(self, *shapes: Shape) -> Shape:
        return broadcast_shape(self.name, shapes)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        value = call.value("self")
        if call.target == "leaky_relu.default":
            return call.builder.add(cls(), value, call.scalar(call["negative_slope"]))
        slope = call.value("weight")
        if call.is_stream(slope):
            raise call.refused("the slope depends on an input", help="use a constant or a parameter")
        shape = (slope.size, *(1,) * (len(value.shape) - 1))
        if slope.size == 1:
            shape = ()
        return call.builder.add(cls(), value, reshaped_parameter(call, slope, shape))

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        value, slope = operands

        def choose(x: Term, s: Term) -> Term:
            return (x > 0).select(x << max(slope.frac, 0), (x * s) << max(-slope.frac, 0))

        return builder.map(choose, value, slope, frac=value.frac + max(slope.frac, 0))

    def torch(self, *arguments: str) -> str:
        value, slope = arguments
        return f"torch.where({value} > 0, {value}, {value} * {slope})"

    def text(self) -> str:
        return ""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), ((6,), ()), ("fixed<8,4>", "fixed<8,9>"), constants=(1,))
        yield Sample(cls(), ((3, 5), (3, 1)), ("fixed<6,4>", "fixed<6,4>"), constants=(1,))
        yield Sample(cls(), ((5,), ()), ("fixed<6,4>", "fixed<3,-1>"), constants=(1,))
