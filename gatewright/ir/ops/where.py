"""where: elements of one tensor where a condition holds, else of another."""

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
class Where(Operator):
    """The second operand where the first is not zero, else the third; exact."""

    name = "where"
    aten = ("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar")

    def infer_shape(self, *shapes: Shape) -> Shape:
        return broadcast_shape(self.name, shapes)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        return call.builder.add(cls(), *call.broadcast("condition", "self", "other"))

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (shift_a, shift_b), frac = builder.align(*operands[1:])

        def choose(condition: Term, a: Term, b: Term) -> Term:
            return condition.select(shift_a(a), shift_b(b))

        return builder.map(choose, *operands, frac=frac)

    def torch(self, *arguments: str) -> str:
        return f"torch.where({arguments[0]} != 0, {arguments[1]}, {arguments[2]})"

    def text(self) -> str:
        return ""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), ((3, 5), (3, 5), (3, 5)), ("ufixed<1,0>", "fixed<8,4>", "fixed<6,5>"))
        yield Sample(cls(), ((7,), (7,), ()), ("fixed<2,0>", "fixed<8,4>", "fixed<8,6>"), constants=(2,))
