"""conv_transpose: the transposed convolution, as a convolution of the input spread out with zeros."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.conv import Conv
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.slice import Slice
from gatewright.ir.spatial import per_axis
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class ConvTranspose(Operator):
    """``[channels, *spatial]`` with a weight ``[channels, out / groups, *kernel]`` and a bias that may be absent.

    ``padding`` is what PyTorch takes off each end of every spatial axis, ``output_padding`` what it adds at the end.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    name = "conv_transpose"
    aten = ("conv_transpose1d.default", "conv_transpose2d.input")
    roles = ("input", "weight", "bias")

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.stride)

    def block_axis(self, operand: int) -> int:
        return -2 - self.rank if operand == 1 else -1 - self.rank

    def infer_shape(self, *shapes: Shape) -> Shape:
        value, weight = shapes[0], shapes[1]
        if len(value) != self.rank + 1 or weight[0] != value[0] or value[0] % self.groups:
            raise error(
                "GW0352",
                f"conv_transpose: an operand of shape {list(value)}, a weight of {list(weight)}, {self.groups} groups",
                note="the weight is [channels, out / groups, kernel], and the groups divide the channels",
            )
        spatial = tuple(
            (value[axis + 1] - 1) * self.stride[axis]
            - 2 * self.padding[axis]
            + self.dilation[axis] * (weight[axis + 2] - 1)
            + self.output_padding[axis]
            + 1
            for axis in range(self.rank)
        )
        return (weight[1] * self.groups, *spatial)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        value, weight = call.value("input"), call.value("weight")
        operands = [value, weight]
        if call.get("bias") is not None:
            operands.append(call.value("bias"))
        if not call.is_stream(value) or any(call.is_stream(each) for each in operands[1:]):
            raise call.refused(
                "the weight or the bias depends on an input",
                note="a convolution multiplies a stream with constants",
            )
        rank = len(weight.shape) - 2
        if len(value.shape) != rank + 1:
            raise call.mixes_samples()
        op = cls(
            per_axis(call["stride"], rank),
            per_axis(call["padding"], rank, 0),
            per_axis(call["output_padding"], rank, 0),
            per_axis(call["dilation"], rank),
            int(call["groups"]),
        )
        return call.builder.add(op, *operands)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        value, weight = operands[0], operands[1]
        rank = self.rank
        spread = self._spread(builder, value)
        pairs: list[tuple[int, int]] = []
        for axis in range(rank):
            around = self.dilation[axis] * (weight.shape[axis + 2] - 1) - self.padding[axis]
            # The spread input already ends in stride - 1 zeros.
            pairs.append((around, around + self.output_padding[axis] - (self.stride[axis] - 1)))
        for axis, (before, after) in enumerate(pairs):
            stop = spread.shape[axis + 1] + min(after, 0)
            if before < 0 or after < 0:
                spread = builder.add(Slice(axis + 1, max(-before, 0), stop), spread)
        padding = tuple((max(before, 0), max(after, 0)) for before, after in pairs)
        conv = Conv((1,) * rank, padding, self.dilation, self.groups)
        return conv.decompose(builder, spread, self._turned(builder, weight), *operands[2:])

    def _spread(self, builder: Builder, value: Value) -> Value:
        """``value`` with stride - 1 zeros behind every element of every spatial axis."""
        if all(step == 1 for step in self.stride):
            return value
        split: list[int] = [value.shape[0]]
        amounts: list[tuple[int, int]] = [(0, 0)]
        for size, step in zip(value.shape[1:], self.stride, strict=True):
            split += [size, 1]
            amounts += [(0, 0), (0, step - 1)]
        padded = builder.add(Pad(tuple(amounts)), builder.reshape(value, tuple(split)))
        wide = tuple(size * step for size, step in zip(value.shape[1:], self.stride, strict=True))
        return builder.reshape(padded, (value.shape[0], *wide))

    def _turned(self, builder: Builder, weight: Value) -> Value:
        """The weight of the equivalent convolution: [out, channels / groups, *kernel], every axis reversed."""
        array = builder.constant_of(weight)
        channels, outputs, *kernel = weight.shape
        shape = (self.groups * outputs, channels // self.groups, *kernel)
        if array is None:
            return builder.reshape(weight, shape)
        return builder.integers(self.turn(array), weight.format, name=weight.name)

    def turn(self, array: IntegerArray) -> IntegerArray:
        """The codes of the equivalent convolution's weight."""
        channels, outputs, *kernel = array.shape
        grouped = array.reshape(self.groups, channels // self.groups, outputs, *kernel).swapaxes(1, 2)
        flipped = np.flip(grouped, axis=tuple(range(3, grouped.ndim)))
        return np.ascontiguousarray(flipped.reshape(self.groups * outputs, channels // self.groups, *kernel))

    def torch(self, *arguments: str) -> str:
        value, *parameters = arguments
        bias = parameters[1] if len(parameters) == 2 else "None"
        settings = f"{self.stride}, {self.padding}, {self.output_padding}, {self.groups}, {self.dilation}"
        return f"F.conv_transpose{self.rank}d({value}, {parameters[0]}, {bias}, {settings})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        wide = ("fixed<8,4>", "fixed<6,4>", "fixed<8,6>")
        yield Sample(cls((2, 2), (1, 1), (1, 0), (1, 1)), ((3, 4, 3), (3, 2, 3, 3), (2,)), wide, constants=(1, 2))
        yield Sample(cls((1,), (0,), (0,), (2,), 2), ((4, 5), (4, 2, 3), (4,)), wide, constants=(1, 2))
        yield Sample(cls((3, 1), (2, 0), (0, 0), (1, 1)), ((2, 3, 4), (2, 3, 2, 2)), wide[:2], constants=(1,))
