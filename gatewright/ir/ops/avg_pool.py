"""avg_pool: the average of every window, channels first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewright.ir.expressions import Term
from gatewright.ir.formats import Exact
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.pooling import pooled, pooled_shape, pooling_arguments
from gatewright.ir.spatial import Pairs, channels_first, channels_last
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class AvgPool(Operator):
    """Average over windows of the spatial axes.

    Exact where all windows divide by ``divisor``, a power of two. Otherwise ``divisor`` is 0 and the second operand
    holds the reciprocals (one, or one per output position), rounded visibly by its own cast; the result is
    the exact product of the sum with it. ``padding`` holds (before, after) of zeros.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs
    divisor: int = 0

    name = "avg_pool"
    aten = ("avg_pool1d.default", "avg_pool2d.default")
    roles = ("input", "weight")

    def infer_shape(self, *shapes: Shape) -> Shape:
        dilation = (1,) * len(self.kernel)
        return pooled_shape(self.name, shapes[0], self.kernel, self.stride, self.padding, dilation)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        value, found = pooling_arguments(call)
        counts = found.divisors(value.shape[1:])
        common = int(counts.flat[0])
        if bool((counts == common).all()):
            if common & (common - 1) == 0:
                return call.builder.add(cls(found.kernel, found.stride, found.padding, common), value)
            counts = np.asarray(common)
        scale = call.builder.parameter("", 1.0 / counts, trainable=False)
        return call.builder.add(cls(found.kernel, found.stride, found.padding), value, scale)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        value = channels_last(builder, operands[0])
        dilation = (1,) * len(self.kernel)
        total = pooled(builder, "sum", value, self.kernel, self.stride, self.padding, dilation, 0)
        total = channels_first(builder, total)
        if self.divisor:
            return builder.map(_same, total, format=Exact(total.frac + self.divisor.bit_length() - 1))
        scale = operands[1]

        def product(x: Term, s: Term) -> Term:
            return x * s

        return builder.map(product, total, scale, frac=total.frac + scale.frac)

    def torch(self, *arguments: str) -> str:
        rank = len(self.kernel)
        flat = [amount for pair in reversed(self.padding) for amount in pair]
        value = f"F.pad({arguments[0]}, {flat})" if any(flat) else arguments[0]
        # The average times the kernel's size is the exact sum only in exact arithmetic: sum with unfold.
        for axis in range(rank):
            value = f"{value}.unfold({axis + 2}, {self.kernel[axis]}, {self.stride[axis]})"
        total = f"{value}.sum({tuple(range(2 + rank, 2 + 2 * rank))})"
        return f"{total} / {self.divisor}" if self.divisor else f"{total} * {arguments[1]}"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        plain = ((0, 0), (0, 0))
        yield Sample(cls((2, 2), (2, 2), plain, 4), ((3, 4, 6),), ("fixed<8,4>",))
        yield Sample(
            cls((3, 2), (1, 2), ((1, 1), (0, 1))),
            ((2, 5, 5), ()),
            ("fixed<6,4>", "ufixed<8,9>"),
            constants=(1,),
        )
        yield Sample(cls((3,), (2,), ((1, 1),)), ((2, 7), (4,)), ("fixed<6,4>", "ufixed<8,9>"), constants=(1,))


def _same(x: Term) -> Term:
    return x
