"""parameter_permute: a parameter with its axes in another order; it is folded into the constant."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.builder import Builder
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, register
from gatewright.ir.types import Type, Value


@register
@dataclass(frozen=True, slots=True)
class ParameterPermute(Operator):
    """Axis ``i`` of the result is axis ``order[i]`` of the constant operand; there is no batch axis."""

    order: tuple[int, ...]

    name = "parameter_permute"

    def infer(self, *operands: Value) -> Type:
        return Type(tuple(operands[0].shape[axis] for axis in self.order))

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return arrays[0].transpose(self.order)

    def torch(self, *arguments: str) -> str:
        return f"{arguments[0]}.permute({self.order})"


def permuted_parameter(builder: Builder, value: Value, order: tuple[int, ...]) -> Value:
    """``value`` with permuted axes; two permutations in a row become one, and none where nothing moves."""
    node = builder.producer(value)
    if node is not None and isinstance(node.op, ParameterPermute):
        value, order = node.inputs[0], tuple(node.op.order[axis] for axis in order)
    if order == tuple(range(len(order))):
        return value
    return builder.add(ParameterPermute(order), value)
