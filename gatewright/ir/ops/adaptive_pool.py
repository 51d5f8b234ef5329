"""adaptive_pool: pooling to a given size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gatewright.ir.expressions import Term
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.avg_pool import AvgPool
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.max_pool import MaxPool
from gatewright.ir.ops.mean import Mean
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.slice import Slice
from gatewright.ir.spatial import channels_first, channels_last, per_axis
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class AdaptivePool(Operator):
    """The maximum, or with ``average`` the average, of ``sizes`` windows along the spatial axes.

    Output ``i`` of an axis covers the elements from floor(i * size / outputs) to ceil((i + 1) * size / outputs).
    Where these windows have one size and distance the import makes an ordinary pooling of it. The others are cut out
    one by one, for they overlap: along each axis as many slices and accumulators as there are outputs.
    The second operand of an average holds the reciprocals, one per output position, as in ``avg_pool``.
    """

    sizes: tuple[int, ...]
    average: bool

    name = "adaptive_pool"
    aten = (
        "adaptive_avg_pool1d.default",
        "adaptive_avg_pool2d.default",
        "adaptive_max_pool1d.default",
        "adaptive_max_pool2d.default",
    )
    roles = ("input", "weight")

    def infer_shape(self, *shapes: Shape) -> Shape:
        return (shapes[0][0], *self.sizes)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value | tuple[Value | None, ...]:
        value = call.value("self")
        spatial = value.shape[1:]
        sizes = per_axis(call["output_size"], len(spatial))
        average = "avg" in call.target
        if average and all(size == 1 for size in sizes):
            return Mean.from_aten(call)
        windows = [_windows(size, outputs) for size, outputs in zip(spatial, sizes, strict=True)]
        if not all(_is_regular(each) for each in windows):
            if not average:
                return call.builder.add(cls(sizes, average), value), None
            scale = call.builder.parameter("", 1.0 / _counts(windows), trainable=False)
            return call.builder.add(cls(sizes, average), value, scale)
        kernel = tuple(each[0][1] - each[0][0] for each in windows)
        stride = tuple(each[1][0] - each[0][0] if len(each) > 1 else 1 for each in windows)
        padding = ((0, 0),) * len(spatial)
        if not average:
            return call.builder.add(MaxPool(kernel, stride, padding, (1,) * len(spatial)), value), None
        count = int(np.prod(kernel))
        if count & (count - 1) == 0:
            return call.builder.add(AvgPool(kernel, stride, padding, count), value)
        return call.builder.add(AvgPool(kernel, stride, padding), value, call.scalar(1.0 / count))

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        value = channels_last(builder, operands[0])
        kind = "sum" if self.average else "max"
        for axis, outputs in enumerate(self.sizes):
            pieces = [
                builder.add(Reduce(kind, (axis,)), builder.add(Slice(axis, start, stop), value))
                for start, stop in _windows(value.shape[axis], outputs)
            ]
            value = pieces[0] if len(pieces) == 1 else builder.add(Concat(axis), *pieces)
        value = channels_first(builder, value)
        if not self.average:
            return value
        scale = operands[1]

        def product(x: Term, s: Term) -> Term:
            return x * s

        return builder.map(product, value, scale, frac=value.frac + scale.frac)

    def torch(self, *arguments: str) -> str:
        if self.average:
            return f"gw.adaptive_sum({arguments[0]}, {self.sizes}) * {arguments[1]}"
        return f"F.adaptive_max_pool{len(self.sizes)}d({arguments[0]}, {self.sizes})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls((3, 2), False), ((2, 5, 4),), ("fixed<6,4>",))
        yield Sample(cls((3, 3), True), ((2, 5, 4), (3, 3)), ("fixed<6,4>", "ufixed<8,8>"), constants=(1,))
        yield Sample(cls((4,), True), ((3, 6), (4,)), ("fixed<6,4>", "ufixed<8,8>"), constants=(1,))


def _windows(size: int, outputs: int) -> list[tuple[int, int]]:
    """The first element and the one after the last of every window along an axis."""
    return [(k * size // outputs, -(-(k + 1) * size // outputs)) for k in range(outputs)]


def _is_regular(windows: list[tuple[int, int]]) -> bool:
    """Whether all windows have one length and one distance."""
    lengths = {stop - start for start, stop in windows}
    distances = {after[0] - before[0] for before, after in pairwise(windows)}
    return len(lengths) == 1 and len(distances) <= 1


def _counts(windows: list[list[tuple[int, int]]]) -> NDArray[np.int64]:
    """Elements of the window of every output position."""
    counts = np.ones((), np.int64)
    for each in windows:
        counts = np.multiply.outer(counts, np.array([stop - start for start, stop in each]))
    return counts
