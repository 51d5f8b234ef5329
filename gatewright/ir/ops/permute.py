"""permute: axes in another order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Type, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall


@register
@dataclass(frozen=True, slots=True)
class Permute(Operator):
    """Result axis ``i`` is the operand's axis ``order[i]`` (per-sample axes)."""

    order: tuple[int, ...]

    name = "permute"
    takes_codes = True
    aten = ("permute.default", "transpose.int", "t.default", "numpy_T.default", "mT.default", "movedim.int")
    on_parameters = True
    is_primitive = True

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        value = call.value("self")
        rank = call.rank(value)
        order = axis_order(call, rank)
        if not call.is_stream(value):
            from gatewright.ir.ops.parameter_permute import permuted_parameter

            return permuted_parameter(call, value, order)
        if order[:1] != (0,):
            raise call.mixes_samples()
        if order == tuple(range(rank)):
            return value
        return call.builder.add(cls(tuple(axis - 1 for axis in order[1:])), value)

    def infer(self, *operands: Value) -> Type:
        (value,) = operands
        return Type(tuple(value.shape[axis] for axis in self.order), value.format, value.type.interval)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return arrays[0].transpose(0, *(axis + 1 for axis in self.order))

    def torch(self, *arguments: str) -> str:
        return f"{arguments[0]}.permute({', '.join(map(str, (0, *(axis + 1 for axis in self.order))))})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls((1, 0)), ((3, 5),), ("fixed<8,4>",))
        yield Sample(cls((2, 0, 1)), ((2, 3, 4),), ("fixed<6,4>",))


def axis_order(call: AtenCall, rank: int) -> tuple[int, ...]:
    """The order of PyTorch's axes that a permuting call asks for, batch included."""
    axes = list(range(rank))
    if call.target == "permute.default":
        return tuple(axis % rank for axis in call["dims"])
    if call.target == "movedim.int":
        moved = axes.pop(call["source"] % rank)
        axes.insert(call["destination"] % rank, moved)
        return tuple(axes)
    if call.target == "transpose.int":
        first, second = call["dim0"] % rank, call["dim1"] % rank
    elif call.target == "mT.default":
        first, second = rank - 2, rank - 1
    elif call.target == "t.default" and rank < 2:
        return tuple(axes)
    elif call.target == "t.default":
        first, second = 0, 1
    else:
        return tuple(reversed(axes))
    axes[first], axes[second] = axes[second], axes[first]
    return tuple(axes)
