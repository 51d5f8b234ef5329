"""neg: the negative of every element."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.expressions import Term
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Neg(Operator):
    """``-x``; exact, one bit wider where the most negative code occurs."""

    name = "neg"
    aten = ("neg.default",)

    def infer_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        return call.builder.add(cls(), call.value("self"))

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (value,) = operands

        def negative(x: Term) -> Term:
            return -x

        return builder.map(negative, value, frac=value.frac)

    def torch(self, *arguments: str) -> str:
        return f"-{arguments[0]}"

    def text(self) -> str:
        return ""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), ((6,),), ("fixed<8,4>",))
        yield Sample(cls(), ((3, 5),), ("ufixed<5,4>",))
