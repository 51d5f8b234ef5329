"""relu: negative values become zero; exact in every format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.expressions import Term
from gatewright.ir.formats import Exact
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Relu(Operator):
    """``max(x, 0)``."""

    name = "relu"
    aten = ("relu.default",)

    def infer_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        return call.builder.add(cls(), call.value("self"))

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (value,) = operands

        def positive(x: Term) -> Term:
            return x.maximum(0)

        return builder.map(positive, value, format=Exact(value.frac))

    def torch(self, *arguments: str) -> str:
        return f"torch.relu({arguments[0]})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), ((6,),), ("fixed<8,4>",))
        yield Sample(cls(), ((3, 5),), ("fixed<12,4>",))
