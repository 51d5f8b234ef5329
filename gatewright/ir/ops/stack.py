"""stack: tensors joined along a new axis; a rule of the import only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.operator import Operator, register
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.parameter_reshape import reshaped_parameter
from gatewright.ir.types import Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall


@register
@dataclass(frozen=True, slots=True)
class Stack(Operator):
    """Operands joined along a new axis. Never in a graph: the import makes it reshapes and a ``concat``."""

    name = "stack"
    aten = ("stack.default",)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        shape = call.result_shape()
        rank = len(shape) + 1
        axis = call["dim"] % rank - 1
        if axis < 0:
            raise call.mixes_samples()
        row = (*shape[:axis], 1, *shape[axis + 1 :])
        operands: list[Value] = []
        for value in call["tensors"]:
            if call.is_stream(value):
                operands.append(call.builder.reshape(value, row))
            else:
                constant = call.per_sample(value, rank - 1)
                operands.append(reshaped_parameter(call, constant, row))
        return call.builder.add(Concat(axis), *operands)
