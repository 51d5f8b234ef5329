"""adaptive_pool: pooling to a given size, which becomes ordinary pooling on import."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gatewright.ir.operator import Operator, register
from gatewright.ir.ops.avg_pool import AvgPool
from gatewright.ir.ops.max_pool import MaxPool
from gatewright.ir.ops.mean import Mean
from gatewright.ir.spatial import per_axis
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall


@register
@dataclass(frozen=True, slots=True)
class AdaptivePool(Operator):
    """Imports adaptive poolings; no graph contains it.

    Output ``i`` of an axis covers the elements from floor(i * size / outputs) to ceil((i + 1) * size / outputs).
    Where these windows have one size and distance it is a pooling with that kernel and stride; other sizes are refused.
    """

    name = "adaptive_pool"
    aten = (
        "adaptive_avg_pool1d.default",
        "adaptive_avg_pool2d.default",
        "adaptive_max_pool1d.default",
        "adaptive_max_pool2d.default",
    )

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value | tuple[Value | None, ...]:
        value = call.value("self")
        spatial = value.shape[1:]
        sizes = per_axis(call["output_size"], len(spatial))
        is_average = "avg" in call.target
        if is_average and all(size == 1 for size in sizes):
            return Mean.from_aten(call)
        kernel, stride = _regular(call, spatial, sizes)
        padding = ((0, 0),) * len(spatial)
        if not is_average:
            return call.builder.add(MaxPool(kernel, stride, padding, (1,) * len(spatial)), value), None
        count = int(np.prod(kernel))
        if count & (count - 1) == 0:
            return call.builder.add(AvgPool(kernel, stride, padding, count), value)
        return call.builder.add(AvgPool(kernel, stride, padding), value, call.scalar(1.0 / count))


def _regular(call: AtenCall, spatial: Shape, sizes: Shape) -> tuple[Shape, Shape]:
    """The kernel and stride of windows that are all alike; GW0107 where they are not."""
    kernel: list[int] = []
    stride: list[int] = []
    for size, outputs in zip(spatial, sizes, strict=True):
        windows = [(k * size // outputs, -(-(k + 1) * size // outputs)) for k in range(outputs)]
        lengths = {stop - start for start, stop in windows}
        distances = {after[0] - before[0] for before, after in pairwise(windows)} or {1}
        if len(lengths) > 1 or len(distances) > 1:
            raise call.refused(
                f"from {list(spatial)} to {list(sizes)} the windows differ in size",
                note=f"{size} elements in {outputs} windows: {', '.join(str(b - a) for a, b in windows)} elements",
                help="choose an output size that divides the input's",
            )
        kernel.append(lengths.pop())
        stride.append(distances.pop())
    return tuple(kernel), tuple(stride)
