"""parameter_product: a matrix times a vector of parameters, plus another; folded into a constant."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, register
from gatewright.ir.types import Type, Value


@register
@dataclass(frozen=True, slots=True)
class ParameterProduct(Operator):
    """``matrix @ vector``, or ``matrix @ vector + bias``: a bias that absorbs an offset before the layer."""

    name = "parameter_product"

    def infer(self, *operands: Value) -> Type:
        return Type(operands[0].shape[:1])

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        product = arrays[0] @ arrays[1]
        return product + arrays[2] if len(arrays) == 3 else product

    def torch(self, *arguments: str) -> str:
        bias = f" + gw.exact({arguments[2]})" if len(arguments) == 3 else ""
        return f"gw.exact({arguments[0]}) @ {arguments[1]}{bias}"

    def text(self) -> str:
        return ""
