"""parameter_affine: a parameter scaled, and moved, along one axis; folded into the constant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, register
from gatewright.ir.types import Type, Value


@register
@dataclass(frozen=True, slots=True)
class ParameterAffine(Operator):
    """``a * scale`` or ``a * scale + shift``, where scale and shift run along ``axis`` of ``a``."""

    axis: int = 0

    name = "parameter_affine"

    def infer(self, *operands: Value) -> Type:
        return Type(operands[0].shape)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        shape = (-1, *(1,) * (arrays[0].ndim - 1 - self.axis))
        result = arrays[0] * np.reshape(arrays[1], shape)
        return result + np.reshape(arrays[2], shape) if len(arrays) == 3 else result

    def torch(self, *arguments: str) -> str:
        return self._text(*(f"torch.movedim({arguments[0]}, {self.axis}, -1)", *arguments[1:]))

    def _text(self, moved: str, *others: str) -> str:
        text = f"{moved} * {others[0]}" + (f" + {others[1]}" if len(others) == 2 else "")
        return f"torch.movedim({text}, -1, {self.axis})"
