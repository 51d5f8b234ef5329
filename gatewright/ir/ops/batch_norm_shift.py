"""batch_norm_shift: a batch norm's offset per channel, from its parameters; folded into a constant."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, register
from gatewright.ir.types import Type, Value


@register
@dataclass(frozen=True, slots=True)
class BatchNormShift(Operator):
    """``bias - mean * scale``; operands are the mean, the scale and, where there is one, the bias."""

    name = "batch_norm_shift"

    def infer(self, *operands: Value) -> Type:
        return Type(operands[0].shape)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        moved = arrays[0] * arrays[1]
        return arrays[2] - moved if len(arrays) == 3 else -moved

    def torch(self, *arguments: str) -> str:
        moved = f"gw.exact({arguments[0]}) * {arguments[1]}"
        return f"gw.exact({arguments[2]}) - {moved}" if len(arguments) == 3 else f"-({moved})"

    def text(self) -> str:
        return ""
