"""parameter_permute: a parameter with its axes in another order; it is folded into the constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, register
from gatewright.ir.ops.cast import Cast
from gatewright.ir.types import Type, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall


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


def permuted_parameter(call: AtenCall, value: Value, order: tuple[int, ...]) -> Value:
    """``value`` with permuted axes; two permutations in a row become one, and none where nothing moves."""
    node = call.builder.producer(value)
    if node is not None and isinstance(node.op, ParameterPermute):
        earlier = node.op.order
        value, order = node.inputs[0], tuple(earlier[axis] for axis in order)
    if order == tuple(range(len(order))):
        return value
    if node is not None and isinstance(node.op, Cast) and (turned := node.op.permuted(order)) is not None:
        # The cast stands behind the permutation, directly before what reads it.
        return call.builder.add(turned, permuted_parameter(call, node.inputs[0], order), name=call.named("cast"))
    return call.builder.add(ParameterPermute(order), value, name=call.named("permuted"))
