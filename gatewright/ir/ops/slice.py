"""slice: a range of one axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Type, Value


@register
@dataclass(frozen=True, slots=True)
class Slice(Operator):
    """Elements ``start, start + step, ... < stop`` of per-sample ``axis``."""

    axis: int
    start: int
    stop: int
    step: int = 1

    name = "slice"
    is_primitive = True

    def infer(self, *operands: Value) -> Type:
        (value,) = operands
        size = len(range(self.start, self.stop, self.step))
        shape = tuple(size if axis == self.axis else each for axis, each in enumerate(value.shape))
        return Type(shape, value.format, value.type.interval)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return np.take(arrays[0], range(self.start, self.stop, self.step), axis=self.axis + 1)

    def torch(self, *arguments: str) -> str:
        return f"gw.slice({arguments[0]}, {self.axis}, {self.start}, {self.stop}, {self.step})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(0, 2, 7), ((8,),), ("fixed<8,4>",))
        yield Sample(cls(0, 1, 3), ((4, 3),), ("fixed<8,4>",))
        yield Sample(cls(1, 1, 6, 2), ((3, 6),), ("fixed<8,4>",))
