"""permute: axes in another order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Type, Value


@register
@dataclass(frozen=True, slots=True)
class Permute(Operator):
    """Result axis ``i`` is the operand's axis ``order[i]`` (per-sample axes)."""

    order: tuple[int, ...]

    name = "permute"
    is_primitive = True

    def infer(self, *operands: Value) -> Type:
        (value,) = operands
        return Type(tuple(value.shape[axis] for axis in self.order), value.format, value.type.interval)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return arrays[0].transpose(0, *(axis + 1 for axis in self.order))

    def torch(self, *arguments: str) -> str:
        return f"gw.permute({arguments[0]}, {self.order})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls((1, 0)), ((3, 5),), ("fixed<8,4>",))
        yield Sample(cls((2, 0, 1)), ((2, 3, 4),), ("fixed<6,4>",))
