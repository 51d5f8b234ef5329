"""matmul: the matrix product of two tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.accumulation import Accumulation
from gatewright.ir.block_products import BlockOperator, Factor, Grouped, factor, sum_of_blocks
from gatewright.ir.block_values import BlockValue
from gatewright.ir.operator import Sample, register
from gatewright.ir.ops.linear import Linear
from gatewright.ir.ops.parameter_permute import permuted_parameter
from gatewright.ir.ops.parameter_reshape import reshaped_parameter
from gatewright.ir.ops.permute import Permute
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Matmul(BlockOperator):
    """``a @ b`` over the last two axes, leading axes broadcast; exact.

    A stream times a constant matrix is imported as ``linear`` instead, with the matrix transposed. Operands in a
    block format have their blocks along the axis that is summed: the left one's last, the right one's last but one.
    """

    accumulation: Accumulation | None = None

    name = "matmul"
    takes_codes = True
    aten = ("matmul.default", "mm.default", "bmm.default", "addmm.default")
    roles = ("input",)

    def infer_shape(self, *shapes: Shape) -> Shape:
        left, right = shapes
        try:
            leading = np.broadcast_shapes(left[:-2], right[:-2])
        except ValueError:
            leading = None
        if leading is None or left[-1] != right[-2]:
            raise error(
                "GW0312",
                f"matmul of {list(left)} and {list(right)}",
                note="the left operand's last axis must match the right operand's last but one",
            )
        return (*(int(size) for size in leading), left[-2], right[-1])

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        if call.target == "addmm.default":
            return _addmm(call)
        names = ("self", "mat2") if call.get("mat2") is not None else ("self", "other")
        left, right = call.value(names[0]), call.value(names[1])
        if call.is_stream(left) and not call.is_stream(right) and len(right.shape) <= 2:
            return _linear(call, left, right)
        streams = [value for value in (left, right) if call.is_stream(value)]
        rank = max(call.rank(left), call.rank(right))
        if any(call.rank(value) != rank for value in streams) or rank < 3:
            raise call.mixes_samples()
        if len(left.shape) == 1 and not call.is_stream(left):
            row = reshaped_parameter(call, left, (1, left.size))
            return call.builder.reshape(call.builder.add(cls(), row, right), call.result_shape())
        left, right = call.broadcast_values(left, right)
        return call.builder.add(cls(), left, right)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        left, right = operands
        rank = max(len(left.shape), len(right.shape)) - 2
        left_names, left = _leading(builder, left, right, rank)
        right_names, right = _leading(builder, right, left, rank)
        result = [f"b{axis}" for axis in range(rank) if f"b{axis}" in left_names + right_names]
        first, second = " ".join([*left_names, "m", "k"]), " ".join([*right_names, "k", "n"])
        target = " ".join([*result, "m", "n"])
        if builder.is_stream(right) and builder.constant_of(left) is not None:
            product = builder.contract(f"{second}, {first} -> {target}", right, left)
        else:
            product = builder.contract(f"{first}, {second} -> {target}", left, right)
        return builder.reshape(product, self.infer_shape(operands[0].shape, operands[1].shape))

    def block_axis(self, operand: int) -> int:
        return -2 if operand == 1 else -1

    def terms(self, *shapes: Shape) -> int:
        return shapes[0][-1]

    def decompose_grouped(self, builder: Builder, *operands: Grouped) -> Value:
        return self.product_of_blocks(builder, operands)

    def block_product(self, builder: Builder, left: Value | BlockValue, right: Value | BlockValue) -> Value:
        settings = self.accumulate
        rank = max(len(left.shape), len(right.shape)) - 2
        first, second = (
            _batched(builder, factor(builder, f"{_batch(each.shape)} {name} j k", each, settings.size, axis), rank)
            for each, name, axis in ((left, "m", -1), (right, "n", -2))
        )
        is_turned = builder.is_stream(second.elements) and builder.constant_of(first.elements) is not None
        stream, other = (second, first) if is_turned else (first, second)
        product = sum_of_blocks(builder, stream, other, "j", settings.spec)
        kept = [*stream.names[:-2]] + [name for name in other.names[:-2] if name not in stream.names]
        batch = [name for name in (f"b{axis}" for axis in range(rank)) if name in kept]
        order = tuple(kept.index(name) for name in (*batch, "m", "n"))
        if order != tuple(range(len(order))):
            product = builder.add(Permute(order), product)
        return builder.reshape(product, self.infer_shape(left.shape, right.shape))

    def torch(self, *arguments: str) -> str:
        if self.accumulation is not None:
            return f"gw.block_matmul({arguments[0]}, {arguments[1]}, {self.accumulation.arguments()})"
        return f"torch.matmul({arguments[0]}, {arguments[1]})"

    def text(self) -> str:
        return "" if self.accumulation is None else self.accumulation.text()

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), ((2, 3), (3, 4)), ("fixed<6,4>", "fixed<8,4>"), constants=(0,))
        yield Sample(cls(), ((2, 3, 4), (2, 4, 5)), ("fixed<8,4>", "fixed<6,4>"))
        yield Sample(cls(), ((3, 4), (4, 2)), ("fixed<8,4>", "ufixed<5,4>"))


def _leading(builder: Builder, value: Value, other: Value, rank: int) -> tuple[list[str], Value]:
    """Names of the value's leading axes without those of extent 1, and the value in that shape."""
    missing = rank - (len(value.shape) - 2)
    kept = [axis for axis, size in enumerate(value.shape[:-2]) if size != 1]
    shape = (*(value.shape[axis] for axis in kept), *value.shape[-2:])
    return [f"b{axis + missing}" for axis in kept], builder.reshape(value, shape)


def _batch(shape: Shape) -> str:
    """Names of the leading axes of an operand, counted from the last one."""
    return " ".join(f"l{axis}" for axis in range(len(shape) - 2))


def _batched(builder: Builder, side: Factor, rank: int) -> Factor:
    """A side whose leading axes are named as in the result of ``rank`` of them, without those of extent 1."""
    missing = rank - (len(side.names) - 3)
    kept = [axis for axis, size in enumerate(side.elements.shape[:-3]) if size != 1]
    names = " ".join([*(f"b{axis + missing}" for axis in kept), *side.names[-3:]])
    shape = (*(side.elements.shape[axis] for axis in kept), *side.elements.shape[-3:])
    return side.renamed(builder, names, shape)


def _linear(call: AtenCall, value: Value, matrix: Value) -> Value:
    """A stream times a constant ``[in, out]``, or times a constant vector ``[in]``."""
    if len(matrix.shape) == 1:
        row = reshaped_parameter(call, matrix, (1, matrix.size))
        return call.builder.reshape(call.builder.add(Linear(), value, row), call.result_shape())
    return call.builder.add(Linear(), value, permuted_parameter(call, matrix, (1, 0)))


def _addmm(call: AtenCall) -> Value:
    value, matrix, bias = call.value("mat1"), call.value("mat2"), call.value("self")
    if float(call["alpha"]) != 1.0 or float(call["beta"]) != 1.0:
        raise call.refused("alpha and beta must be 1", help="multiply the operands themselves")
    if not call.is_stream(value) or call.is_stream(matrix) or call.is_stream(bias):
        raise call.refused(
            "only a stream times a constant matrix plus a constant is supported",
            help="write it as bias + mat1 @ mat2",
        )
    weight = permuted_parameter(call, matrix, (1, 0))
    return call.builder.add(Linear(), value, weight, call.per_sample(bias, call.rank(value)))
