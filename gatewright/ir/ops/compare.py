"""compare: one where a comparison holds, else zero."""

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

SYMBOLS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}


@register
@dataclass(frozen=True, slots=True)
class Compare(Operator):
    """``a > b`` and its kin (``kind`` as PyTorch names them) as the number 0 or 1; exact, no gradient."""

    kind: str

    name = "compare"
    aten = tuple(f"{kind}.{overload}" for kind in SYMBOLS for overload in ("Tensor", "Scalar"))

    def infer_shape(self, *shapes: Shape) -> Shape:
        return broadcast_shape(self.name, shapes)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        return call.builder.add(cls(call.target.partition(".")[0]), *call.broadcast("self", "other"))

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (shift_a, shift_b), _ = builder.align(*operands)

        def compare(a: Term, b: Term) -> Term:
            a, b = shift_a(a), shift_b(b)
            match self.kind:
                case "gt":
                    return a > b
                case "ge":
                    return a >= b
                case "lt":
                    return a < b
                case "le":
                    return a <= b
                case "eq":
                    return a.equals(b)
                case _:
                    return a.equals(b) ^ 1

        return builder.map(compare, *operands)

    def torch(self, *arguments: str) -> str:
        return f"({arguments[0]} {SYMBOLS[self.kind]} {arguments[1]}).to({arguments[0]}.dtype)"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for kind in SYMBOLS:
            yield Sample(cls(kind), ((3, 5), (3, 5)), ("fixed<3,1>", "fixed<4,2>"))
        yield Sample(cls("gt"), ((7,), ()), ("fixed<8,4>", "fixed<8,6>"), constants=(1,))
