"""parameter_offset: what an offset per input channel adds to every output channel of a convolution."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, register
from gatewright.ir.types import Type, Value


@register
@dataclass(frozen=True, slots=True)
class ParameterOffset(Operator):
    """From a weight [out, in / groups, *kernel], an offset [in] and perhaps a bias [out]: the bias that absorbs it.

    It is exact only where every output position sees the whole kernel, that is without padding.
    """

    groups: int = 1

    name = "parameter_offset"

    def infer(self, *operands: Value) -> Type:
        return Type(operands[0].shape[:1])

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        weight, offset = arrays[0], arrays[1]
        taps = weight.reshape(self.groups, -1, weight.shape[1], prod(weight.shape[2:])).sum(axis=3)
        moved = (taps * offset.reshape(self.groups, 1, -1)).sum(axis=2).reshape(-1)
        return moved + arrays[2] if len(arrays) == 3 else moved

    def torch(self, *arguments: str) -> str:
        weight, offset = f"gw.exact({arguments[0]})", arguments[1]
        bias = f" + gw.exact({arguments[2]})" if len(arguments) == 3 else ""
        taps = f"{weight}.flatten(2).sum(2).unflatten(0, ({self.groups}, -1))"
        return f"({taps} * {offset}.reshape({self.groups}, 1, -1)).sum(2).flatten(){bias}"
