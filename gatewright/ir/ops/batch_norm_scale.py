"""batch_norm_scale: a batch norm's factor per channel, from its parameters; folded into a constant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, register
from gatewright.ir.types import Type, Value


@register
@dataclass(frozen=True, slots=True)
class BatchNormScale(Operator):
    """``weight / sqrt(variance + epsilon)``; the operands are variance and, if any, weight."""

    epsilon: float

    name = "batch_norm_scale"

    def infer(self, *operands: Value) -> Type:
        return Type(operands[0].shape)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return (arrays[1] if len(arrays) == 2 else 1.0) / np.sqrt(arrays[0] + self.epsilon)

    def torch(self, *arguments: str) -> str:
        # In float64, where addition, square root and division round alike in numpy and in PyTorch.
        weight = f"gw.exact({arguments[1]})" if len(arguments) == 2 else "1.0"
        return f"{weight} / torch.sqrt(gw.exact({arguments[0]}) + {self.epsilon!r})"
