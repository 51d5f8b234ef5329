"""sum: the exact sum along axes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Sum(Operator):
    """The sum over per-sample ``axes``, which keep extent 1 where ``keep`` is true and vanish otherwise."""

    axes: tuple[int, ...]
    keep: bool = False

    name = "sum"
    aten = ("sum.dim_IntList", "sum.default")
    roles = ("input",)

    def infer_shape(self, *shapes: Shape) -> Shape:
        return reduced_shape(shapes[0], self.axes, self.keep)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        value = call.value("self")
        return call.builder.add(cls(call.axes(value, call.get("dim")), bool(call.get("keepdim"))), value)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (value,) = operands
        return builder.reshape(builder.add(Reduce("sum", self.axes), value), self.infer_shape(value.shape))

    def torch(self, *arguments: str) -> str:
        return f"torch.sum({arguments[0]}, {batched_axes(self.axes)}, keepdim={self.keep})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls((0,)), ((6,),), ("fixed<8,4>",))
        yield Sample(cls((1,), keep=True), ((3, 5),), ("fixed<6,4>",))
        yield Sample(cls((0,)), ((3, 4),), ("ufixed<6,4>",))


def reduced_shape(shape: Shape, axes: tuple[int, ...], keep: bool) -> Shape:
    """The shape after a reduction over ``axes``."""
    if keep:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def batched_axes(axes: tuple[int, ...]) -> tuple[int, ...]:
    """Per-sample axes as PyTorch's, after the batch axis."""
    return tuple(axis + 1 for axis in axes)
