"""square: every element times itself; also the import of small powers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.expressions import Term
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.mul import Mul
from gatewright.ir.ops.reciprocal import Reciprocal
from gatewright.ir.ops.reciprocal_square_root import ReciprocalSquareRoot
from gatewright.ir.ops.square_root import SquareRoot
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Square(Operator):
    """``x * x``; exact, twice the fraction bits."""

    name = "square"
    aten = ("square.default", "pow.Tensor_Scalar")
    roles = ("input",)

    def infer_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        value = call.value("self")
        exponent = float(call.get("exponent", 2))
        if exponent == 1.0:
            return value
        if exponent == 2.0:
            return call.builder.add(cls(), value)
        if exponent == 3.0:
            square = call.builder.add(cls(), value, name=call.named("square"))
            return call.builder.add(Mul(), square, value)
        if exponent == 0.5:
            return call.builder.add(SquareRoot(), value)
        if exponent == -0.5:
            return call.builder.add(ReciprocalSquareRoot(), value)
        if exponent == -1.0:
            return call.builder.add(Reciprocal(), value)
        raise call.refused(
            f"the exponent {exponent:g} is not supported",
            help="supported exponents are 1, 2, 3, 0.5, -0.5 and -1",
        )

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (value,) = operands

        def product(x: Term) -> Term:
            magnitude = x.absolute()
            return magnitude * magnitude

        return builder.map(product, value, frac=2 * value.frac)

    def torch(self, *arguments: str) -> str:
        return f"torch.square({arguments[0]})"

    def text(self) -> str:
        return ""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), ((6,),), ("fixed<8,4>",))
        yield Sample(cls(), ((2, 3),), ("ufixed<5,4>",))
