"""reduce: exact sum, maximum, minimum or bitwise or along axes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gatewright.ir.formats import Exact
from gatewright.ir.intervals import IntegerArray, Interval, widen
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Type, Value


@register
@dataclass(frozen=True, slots=True)
class Reduce(Operator):
    """``kind`` over ``axes`` of the per-sample shape; reduced axes keep extent 1.

    Kinds: sum, max, min, and or: the bitwise or of codes that are not negative.
    """

    kind: str
    axes: tuple[int, ...]

    name = "reduce"
    is_primitive = True

    def infer(self, *operands: Value) -> Type:
        (value,) = operands
        shape = tuple(1 if axis in self.axes else size for axis, size in enumerate(value.shape))
        if self.kind == "or":
            return Type(shape, value.format, Interval(0, (1 << value.interval.high.bit_length()) - 1))
        if self.kind != "sum":
            return Type(shape, value.format, value.interval)
        return Type(shape, Exact(value.frac), value.interval.scaled(self.count(value)))

    def count(self, value: Value) -> int:
        """How many elements make one result."""
        return int(np.prod([value.shape[axis] for axis in self.axes], dtype=np.int64))

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        (array,) = arrays
        axes = tuple(axis + 1 for axis in self.axes)
        if self.kind == "max":
            return np.max(array, axis=axes, keepdims=True)
        if self.kind == "min":
            return np.min(array, axis=axes, keepdims=True)
        if self.kind == "or":
            return np.bitwise_or.reduce(array, axis=axes, keepdims=True)
        bound = Interval.of(array).scaled(array.size) if array.size else Interval(0, 0)
        return np.sum(widen(array, bound), axis=axes, keepdims=True)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for kind in ("sum", "max", "min"):
            yield Sample(cls(kind, (0,)), ((6,),), ("fixed<8,4>",))
            yield Sample(cls(kind, (1,)), ((3, 5),), ("fixed<6,4>",))
            yield Sample(cls(kind, (0,)), ((3, 4),), ("fixed<6,4>",))
            yield Sample(cls(kind, (0, 1)), ((3, 4),), ("ufixed<6,4>",))
        yield Sample(cls("or", (1,)), ((3, 5),), ("ufixed<6,4>",))
