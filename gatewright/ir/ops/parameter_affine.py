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
    """``a * scale`` or ``a * scale + shift``; both run along ``axis`` of ``a``, which is 0 or -1."""

    axis: int = -1

    name = "parameter_affine"

    def infer(self, *operands: Value) -> Type:
        return Type(operands[0].shape)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        moved = np.moveaxis(arrays[0], self.axis, -1) * arrays[1]
        return np.moveaxis(moved + arrays[2] if len(arrays) == 3 else moved, -1, self.axis)

    def torch(self, *arguments: str) -> str:
        value = f"gw.exact({arguments[0]})"
        value = value if self.axis == -1 else f"{value}.movedim({self.axis}, -1)"
        text = f"{value} * {arguments[1]}" + (f" + {arguments[2]}" if len(arguments) == 3 else "")
        return text if self.axis == -1 else f"({text}).movedim(-1, {self.axis})"
