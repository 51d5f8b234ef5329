"""parameter_scale: a weight times a factor per channel, where the channels are spread over groups."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, register
from gatewright.ir.types import Shape, Type, Value


@register
@dataclass(frozen=True, slots=True)
class ParameterScale(Operator):
    """``weight * factor``: the weight split into ``split``, the factor as ``spread``, which broadcasts to it.

    The result has the weight's own shape.
    """

    split: Shape
    spread: Shape

    name = "parameter_scale"

    def infer(self, *operands: Value) -> Type:
        return Type(operands[0].shape)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        weight, factor = arrays
        return (weight.reshape(self.split) * factor.reshape(self.spread)).reshape(weight.shape)

    def torch(self, *arguments: str) -> str:
        weight, factor = f"gw.exact({arguments[0]})", arguments[1]
        return f"({weight}.reshape({self.split}) * {factor}.reshape({self.spread})).reshape({weight}.shape)"
