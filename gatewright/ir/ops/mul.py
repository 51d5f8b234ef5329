"""mul: the product of two tensors, element by element."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.expressions import Term
from gatewright.ir.operator import Operator, Sample, broadcast_shape, register
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Mul(Operator):
    """``a * b`` element by element with broadcasting; exact, the fractions add."""

    name = "mul"
    aten = ("mul.Tensor", "mul.Scalar", "multiply.Tensor", "multiply.Scalar")
    roles = ("input",)

    def infer_shape(self, *shapes: Shape) -> Shape:
        return broadcast_shape(self.name, shapes)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        first, second = call.broadcast("self", "other")
        if first == second:
            from gatewright.ir.ops.square import Square

            return call.builder.add(Square(), first)
        return call.builder.add(cls(), first, second)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        first, second = operands

        def product(a: Term, b: Term) -> Term:
            return a * b

        return builder.map(product, first, second, frac=first.frac + second.frac)

    def torch(self, *arguments: str) -> str:
        return f"{arguments[0]} * {arguments[1]}"

    def text(self) -> str:
        return ""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), ((6,), (6,)), ("fixed<8,4>", "fixed<6,2>"))
        yield Sample(cls(), ((3, 5), (3, 1)), ("ufixed<5,3>", "fixed<7,5>"))
        yield Sample(cls(), ((3, 5), (5,)), ("fixed<8,4>", "fixed<4,2>"), constants=(1,))
        yield Sample(cls(), ((7,), ()), ("fixed<8,4>", "fixed<8,6>"), constants=(1,))
