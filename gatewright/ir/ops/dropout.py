"""dropout: drops elements while training; nothing in hardware."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Shape, Type, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Dropout(Operator):
    """The operand; while the printed module trains, each element is zeroed with probability ``p``."""

    p: float

    name = "dropout"
    aten = ("dropout.default", "feature_dropout.default", "alpha_dropout.default")

    def infer_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def infer(self, *operands: Value) -> Type:
        return operands[0].type

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        return call.builder.add(cls(float(call["p"])), call.value("input" if "input" in call.arguments else "self"))

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        return operands[0]

    def torch(self, *arguments: str) -> str:
        return f"F.dropout({arguments[0]}, {self.p}, self.training)"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(0.5), ((3, 5),), ("fixed<8,4>",))
