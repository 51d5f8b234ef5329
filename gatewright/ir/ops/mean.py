"""mean: the average along axes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewright.ir.expressions import Term
from gatewright.ir.formats import Exact
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.sum import batched_axes, reduced_shape
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Mean(Operator):
    """The average over per-sample ``axes``, which keep extent 1 where ``keep`` is true and vanish otherwise.

    Exact where the count is a power of two. Otherwise the second operand is the constant one over the
    count, rounded visibly by its own cast, and the result is the exact product of the sum with it.
    """

    axes: tuple[int, ...]
    keep: bool = False

    name = "mean"
    aten = ("mean.dim", "mean.default")
    roles = ("input", "weight")

    def infer_shape(self, *shapes: Shape) -> Shape:
        return reduced_shape(shapes[0], self.axes, self.keep)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        value = call.value("self")
        if call.target.startswith("mean"):
            op = cls(call.axes(value, call.get("dim")), bool(call.get("keepdim")))
        elif any(size != 1 for size in call["output_size"]):
            raise call.refused(
                f"the output size {list(call['output_size'])} is not supported",
                help="pool to a single element, or use a mean over the axes that you need",
            )
        else:
            spatial = len(call["output_size"])
            op = cls(tuple(range(len(value.shape) - spatial, len(value.shape))), True)
        count = op.count(value.shape)
        scale = () if count & (count - 1) == 0 else (call.scalar(1.0 / count),)
        return call.builder.add(op, value, *scale)

    def count(self, shape: Shape) -> int:
        """How many elements make one average."""
        return int(np.prod([shape[axis] for axis in self.axes], dtype=np.int64))

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        value = operands[0]
        total = builder.reshape(builder.add(Reduce("sum", self.axes), value), self.infer_shape(value.shape))
        if len(operands) == 2:
            scale = operands[1]

            def product(x: Term, s: Term) -> Term:
                return x * s

            return builder.map(product, total, scale, frac=total.frac + scale.frac)
        bits = self.count(value.shape).bit_length() - 1
        return builder.map(_same, total, format=Exact(total.frac + bits))

    def torch(self, *arguments: str) -> str:
        axes = batched_axes(self.axes)
        if len(arguments) == 1:
            return f"torch.mean({arguments[0]}, {axes}, keepdim={self.keep})"
        return f"torch.sum({arguments[0]}, {axes}, keepdim={self.keep}) * {arguments[1]}"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls((0,)), ((8,),), ("fixed<8,4>",))
        yield Sample(cls((1,), keep=True), ((3, 5), ()), ("fixed<6,4>", "fixed<8,9>"), constants=(1,))
        yield Sample(cls((0, 1)), ((2, 4),), ("ufixed<6,4>",))


def _same(x: Term) -> Term:
    return x
