"""slice: a range of one axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.parameter_reshape import reshaped_parameter
from gatewright.ir.ops.parameter_slice import ParameterSlice
from gatewright.ir.types import Type, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall


@register
@dataclass(frozen=True, slots=True)
class Slice(Operator):
    """Elements ``start, start + step, ... < stop`` of per-sample ``axis``."""

    axis: int
    start: int
    stop: int
    step: int = 1

    name = "slice"
    takes_codes = True
    aten = ("slice.Tensor", "select.int", "narrow.default")
    on_parameters = True
    is_primitive = True

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        value = call.value("self")
        stream = call.is_stream(value)
        rank = call.rank(value)
        extents = (call.batch, *value.shape) if stream else value.shape
        dimension = int(call["dim"]) % rank
        start, stop, step = _range(call, extents[dimension])
        shape = call.results[0]
        if (start, stop, step) == (0, extents[dimension], 1) and shape == extents:
            return value
        if not stream:
            op = ParameterSlice(dimension, start, stop, step)
            return reshaped_parameter(call, call.builder.add(op, value, name=call.named("slice")), shape)
        sliced = call.builder.add(cls(call.axis(value, dimension), start, stop, step), value)
        return call.builder.reshape(sliced, call.result_shape())

    def infer(self, *operands: Value) -> Type:
        (value,) = operands
        size = len(range(self.start, self.stop, self.step))
        shape = tuple(size if axis == self.axis else each for axis, each in enumerate(value.shape))
        return Type(shape, value.format, value.type.interval)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return np.take(arrays[0], range(self.start, self.stop, self.step), axis=self.axis + 1)

    def torch(self, *arguments: str) -> str:
        step = f":{self.step}" if self.step != 1 else ""
        return f"{arguments[0]}[{':, ' * (self.axis + 1)}{self.start}:{self.stop}{step}]"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(0, 2, 7), ((8,),), ("fixed<8,4>",))
        yield Sample(cls(0, 1, 3), ((4, 3),), ("fixed<8,4>",))
        yield Sample(cls(1, 1, 6, 2), ((3, 6),), ("fixed<8,4>",))


def _range(call: AtenCall, size: int) -> tuple[int, int, int]:
    """First element, end and step of a slicing call along an axis of that size."""
    if call.target == "select.int":
        index = call["index"] % size
        return index, index + 1, 1
    if call.target == "narrow.default":
        start = int(call["start"]) % size
        return start, start + int(call["length"]), 1
    given: slice[Any, Any, Any] = slice(call["start"], call["end"], call["step"])
    first, last, step = given.indices(size)
    return first, last, step
