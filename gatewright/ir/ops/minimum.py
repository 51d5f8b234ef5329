"""minimum: the smaller of two tensors, element by element."""

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
class Minimum(Operator):
    """The smaller of ``a`` and ``b``, with broadcasting; exact."""

    name = "minimum"
    aten = ("minimum.default", "min.other")

    def infer_shape(self, *shapes: Shape) -> Shape:
        return broadcast_shape(self.name, shapes)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        return call.builder.add(cls(), *call.broadcast("self", "other"))

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (shift_a, shift_b), frac = builder.align(*operands)

        def choose(a: Term, b: Term) -> Term:
            return shift_a(a).minimum(shift_b(b))

        return builder.map(choose, *operands, frac=frac)

    def torch(self, *arguments: str) -> str:
        return f"torch.minimum({arguments[0]}, {arguments[1]})"

    def text(self) -> str:
        return ""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), ((6,), (6,)), ("fixed<8,4>", "fixed<6,2>"))
        yield Sample(cls(), ((3, 5), (5,)), ("fixed<8,4>", "fixed<8,6>"), constants=(1,))
