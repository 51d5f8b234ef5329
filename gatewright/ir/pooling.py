"""What maximum and average pooling share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gatewright.ir.spatial import Pairs, per_axis, positions
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@dataclass(frozen=True, slots=True)
class PoolingArguments:
    """A pooling call, per spatial axis; ``symmetric`` is the padding that the user gave."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    symmetric: tuple[int, ...]
    counts_padding: bool = True
    override: int = 0

    def divisors(self, spatial: Shape) -> NDArray[Any]:
        """By how much PyTorch divides every output position's sum.

        Padding that the user gave counts unless ``count_include_pad`` is false; what ``ceil_mode`` adds never does.
        """
        counts = np.ones((), np.int64)
        for axis, size in enumerate(spatial):
            amount = self.symmetric[axis]
            before, after = self.padding[axis]
            padded = size + before + after
            inside = np.arange(-before, size + after)
            lowest, highest = (-amount, size + amount) if self.counts_padding else (0, size)
            counted = ((inside >= lowest) & (inside < highest)).astype(np.int64)
            starts = range(0, padded - self.kernel[axis] + 1, self.stride[axis])
            line = np.array([counted[start : start + self.kernel[axis]].sum() for start in starts])
            counts = np.multiply.outer(counts, line)
        return np.full_like(counts, self.override) if self.override else counts


def pooling_arguments(call: AtenCall) -> tuple[Value, PoolingArguments]:
    """The operand and arguments of a pooling call; ``ceil_mode`` becomes padding after the end."""
    value = call.value("self")
    rank = 1 if "pool1d" in call.target else 2
    if len(value.shape) != rank + 1:
        raise call.mixes_samples()
    kernel = per_axis(call["kernel_size"], rank)
    stride = tuple(call["stride"]) if call.get("stride") else ()
    stride = per_axis(stride, rank) if stride else kernel
    given = per_axis(call.get("padding"), rank, 0) if call.get("padding") is not None else (0,) * rank
    dilation = per_axis(call.get("dilation"), rank)
    pairs: list[tuple[int, int]] = []
    for axis, outputs in enumerate(call.results[0][2:]):
        span = (kernel[axis] - 1) * dilation[axis] + 1
        reached = (outputs - 1) * stride[axis] + span
        pairs.append((given[axis], max(reached - value.shape[axis + 1] - given[axis], given[axis])))
    counts_padding = bool(call.get("count_include_pad", True))
    override = call.get("divisor_override")
    found = PoolingArguments(kernel, stride, tuple(pairs), dilation, given, counts_padding, int(override or 0))
    return value, found


def pooled_shape(
    name: str, shape: Shape, kernel: Sequence[int], stride: Sequence[int], padding: Pairs, dilation: Sequence[int]
) -> Shape:
    """The shape after pooling ``[channels, *spatial]``."""
    return (shape[0], *positions(name, shape[1:], kernel, stride, padding, dilation))


def pooled(
    builder: Builder,
    kind: str,
    value: Value,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...],
    fill: int,
) -> Value:
    """``[*spatial, channels]`` reduced over windows: ``[*positions, channels]``.

    Windows that do not overlap need no line buffer: they are the axes of a reshaped operand.
    """
    from gatewright.ir.ops.pad import Pad
    from gatewright.ir.ops.reduce import Reduce
    from gatewright.ir.ops.slice import Slice
    from gatewright.ir.ops.window import Window

    rank = len(kernel)
    sizes = positions(f"{kind} pool", value.shape[:rank], kernel, stride, padding, dilation)
    channels = value.shape[-1]
    if kernel != stride or any(step != 1 for step in dilation):
        windows = builder.add(Window(kernel, stride, padding, dilation, fill), value)
        reduced = builder.add(Reduce(kind, tuple(range(rank, 2 * rank))), windows)
        return builder.reshape(reduced, (*sizes, channels))
    if any(amounts != (0, 0) for amounts in padding):
        value = builder.add(Pad((*padding, (0, 0)), code=fill), value)
    for axis in range(rank):
        used = sizes[axis] * kernel[axis]
        if used < value.shape[axis]:
            value = builder.add(Slice(axis, 0, used), value)
    split = [part for axis in range(rank) for part in (sizes[axis], kernel[axis])]
    value = builder.reshape(value, (*split, channels))
    axes = tuple(2 * axis + 1 for axis in range(rank) if kernel[axis] > 1)
    if axes:
        value = builder.add(Reduce(kind, axes), value)
    return builder.reshape(value, (*sizes, channels))
