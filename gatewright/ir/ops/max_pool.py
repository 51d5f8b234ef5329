"""max_pool: the largest element of every window, channels first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.pooling import pooled, pooled_shape, pooling_arguments
from gatewright.ir.spatial import Pairs, channels_first, channels_last
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class MaxPool(Operator):
    """Maximum over windows of the spatial axes; elements outside never win.

    ``padding`` holds (before, after) for every spatial axis, after ``ceil_mode`` has been worked in.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]

    name = "max_pool"
    aten = (
        "max_pool1d.default",
        "max_pool2d.default",
        "max_pool1d_with_indices.default",
        "max_pool2d_with_indices.default",
    )

    def infer_shape(self, *shapes: Shape) -> Shape:
        return pooled_shape(self.name, shapes[0], self.kernel, self.stride, self.padding, self.dilation)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value | tuple[Value | None, ...]:
        value, found = pooling_arguments(call)
        for axis, size in enumerate(value.shape[1:]):
            before, after = found.padding[axis]
            extent = (found.kernel[axis] - 1) * found.dilation[axis] + 1
            for start in range(-before, size + after - extent + 1, found.stride[axis]):
                if not any(0 <= tap < size for tap in range(start, start + extent, found.dilation[axis])):
                    raise call.refused(
                        f"the window at {start} along spatial axis {axis} holds padding alone",
                        note="its maximum is minus infinity in PyTorch, which no number format of hardware holds",
                        help="use less padding or dilation",
                    )
        result = call.builder.add(cls(found.kernel, found.stride, found.padding, found.dilation), value)
        return (result, None) if "indices" in call.target else result

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        value = channels_last(builder, operands[0])
        lowest = value.interval.low
        result = pooled(builder, "max", value, self.kernel, self.stride, self.padding, self.dilation, lowest)
        return channels_first(builder, result)

    def torch(self, *arguments: str) -> str:
        rank = len(self.kernel)
        value, padding = arguments[0], tuple(before for before, _ in self.padding)
        if any(
            before != after or 2 * before > size
            for (before, after), size in zip(self.padding, self.kernel, strict=True)
        ):
            flat = [amount for pair in reversed(self.padding) for amount in pair]
            value, padding = f"F.pad({value}, {flat}, value=float('-inf'))", (0,) * rank
        return f"F.max_pool{rank}d({value}, {self.kernel}, {self.stride}, {padding}, {self.dilation})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        plain = ((0, 0), (0, 0))
        yield Sample(cls((2, 2), (2, 2), plain, (1, 1)), ((3, 6, 5),), ("fixed<8,4>",))
        yield Sample(cls((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)), ((2, 7, 6),), ("fixed<6,4>",))
        yield Sample(cls((3,), (1,), ((0, 0),), (2,)), ((4, 8),), ("ufixed<5,4>",))
