"""parameter_reshape: a parameter under another shape; no hardware, it is folded into the constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, register
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.constant import Constant
from gatewright.ir.types import Shape, Type, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall


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


def reshaped_parameter(call: AtenCall, value: Value, shape: Shape) -> Value:
    """The constant ``value`` under ``shape``; a literal is reshaped itself, a parameter keeps its name."""
    if value.shape == shape:
        return value
    node = call.builder.producer(value)
    assert node is not None
    if isinstance(node.op, Constant) and not node.op.source:
        return call.builder.parameter("", node.op.data.array.reshape(shape), trainable=False)
    if isinstance(node.op, ParameterReshape):
        return reshaped_parameter(call, node.inputs[0], shape)
    if isinstance(node.op, Cast) and node.op.is_kept_by(value.shape, shape):
        return call.builder.add(node.op, reshaped_parameter(call, node.inputs[0], shape), name=call.named("cast"))
    return call.builder.add(ParameterReshape(shape), value, name=call.named("reshaped"))
