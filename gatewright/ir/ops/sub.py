"""sub: the difference of two tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.expressions import Term
from gatewright.ir.operator import Operator, Sample, broadcast_shape, register
from gatewright.ir.ops.add import scaled
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Sub(Operator):
    """``a - b`` with broadcasting, exact in the finer of the two fractions."""

    name = "sub"
    aten = ("sub.Tensor", "sub.Scalar", "rsub.Tensor", "rsub.Scalar")
    roles = ("input",)

    def infer_shape(self, *shapes: Shape) -> Shape:
        return broadcast_shape(self.name, shapes)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        first, second = call.broadcast("self", "other")
        if call.target.startswith("rsub"):
            first, second = second, first
        return call.builder.add(cls(), first, scaled(call, second))

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (shift_a, shift_b), frac = builder.align(*operands)

        def difference(a: Term, b: Term) -> Term:
            return shift_a(a) - shift_b(b)

        return builder.map(difference, *operands, frac=frac)

    def torch(self, *arguments: str) -> str:
        return f"{arguments[0]} - {arguments[1]}"

    def text(self) -> str:
        return ""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), ((6,), (6,)), ("fixed<8,4>", "fixed<6,2>"))
        yield Sample(cls(), ((2, 3), (2, 1)), ("ufixed<5,3>", "fixed<7,5>"))
        yield Sample(cls(), ((), (5,)), ("fixed<8,6>", "fixed<8,4>"), constants=(0,))
