"""parameter_slice: a range of one axis of a parameter; no hardware, it is folded into the constant."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, register
from gatewright.ir.types import Type, Value


@register
@dataclass(frozen=True, slots=True)
class ParameterSlice(Operator):
    """Elements ``start, start + step, ... < stop`` of ``axis`` of the constant operand."""

    axis: int
    start: int
    stop: int
    step: int = 1

    name = "parameter_slice"

    def infer(self, *operands: Value) -> Type:
        size = len(range(self.start, self.stop, self.step))
        return Type(tuple(size if axis == self.axis else each for axis, each in enumerate(operands[0].shape)))

    def _index(self) -> tuple[slice, ...]:
        return (*(slice(None),) * self.axis, slice(self.start, self.stop, self.step))

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return arrays[0][self._index()]

    def torch(self, *arguments: str) -> str:
        step = f":{self.step}" if self.step != 1 else ""
        return f"{arguments[0]}[{':, ' * self.axis}{self.start}:{self.stop}{step}]"
