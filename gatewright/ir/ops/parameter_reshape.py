"""parameter_reshape: a parameter under another shape; no hardware, it is folded into the constant."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, register
from gatewright.ir.types import Shape, Type, Value


@register
@dataclass(frozen=True, slots=True)
class ParameterReshape(Operator):
    """The constant operand under ``shape``; unlike ``reshape`` there is no batch axis."""

    shape: Shape

    name = "parameter_reshape"

    def infer(self, *operands: Value) -> Type:
        return Type(self.shape)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return arrays[0].reshape(self.shape)

    def torch(self, *arguments: str) -> str:
        return f"{arguments[0]}.reshape({self.shape})"
