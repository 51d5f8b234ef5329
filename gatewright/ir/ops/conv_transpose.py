"""conv_transpose: the transposed convolution, as an ordinary one.

With a stride every output position belongs to a *phase*, its remainder modulo the stride, and all positions of
one phase see the same few taps of the input. So one convolution of the input computes all phases as channels, and a
permutation puts them side by side. Where that is no less work (stride 1, or a dilation that meets the stride badly)
it is the convolution of the input spread out with zeros.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.formats import ScalarFormat
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.conv import Conv
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.slice import Slice
from gatewright.ir.spatial import per_axis
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@dataclass(frozen=True, slots=True)
class _Phases:
    """The taps of one axis: input offsets from ``lowest`` on, by (phase, kernel position) in ``found``.

    ``crop`` outputs of the first turn are taken off.
    """

    lowest: int
    taps: int
    crop: int
    found: dict[tuple[int, int], int]


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
        return {1: -2 - self.rank, 2: -1}.get(operand, -1 - self.rank)

    def takes_blocks(self, operand: int) -> bool:
        return True  # a bias; the others are refused, and not multiplied as wide numbers

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
        arrays = [builder.constant_of(each) for each in operands[1:]]
        phases = [self._phases(axis, weight.shape[axis + 2]) for axis in range(self.rank)]
        is_less = prod(each.taps for each in phases) < prod(weight.shape[2:])
        if is_less and all(array is not None for array in arrays):
            return self._by_phases(builder, phases, *operands)
        return self._by_spreading(builder, value, weight, *operands[2:])

    def _phases(self, axis: int, size: int) -> _Phases:
        """Before it is cropped, output q * stride + r sums weight k times input q + (r - k * dilation) / stride.

        Only where that is whole. The crop takes whole strides off by beginning at a later q.
        """
        stride = self.stride[axis]
        skipped = self.padding[axis] // stride
        found = {
            (phase, k): skipped + (phase - k * self.dilation[axis]) // stride
            for phase in range(stride)
            for k in range(size)
            if (phase - k * self.dilation[axis]) % stride == 0
        }
        lowest = min(found.values())
        return _Phases(lowest, max(found.values()) - lowest + 1, self.padding[axis] % stride, found)

    def _by_phases(self, builder: Builder, phases: list[_Phases], value: Value, weight: Value, *bias: Value) -> Value:
        rank, groups, stride = self.rank, self.groups, self.stride
        outputs, *spatial = self.infer_shape(value.shape, weight.shape)
        padding: list[tuple[int, int]] = []
        for axis, each in enumerate(phases):
            size, turns = value.shape[axis + 1], -(-(spatial[axis] + each.crop) // stride[axis])
            last = turns - 1 + each.lowest + each.taps - 1
            start, stop = max(each.lowest, 0), min(last + 1, size)
            if (start, stop) != (0, size):
                value = builder.add(Slice(axis + 1, start, stop), value)
            padding.append((max(-each.lowest, 0), max(last + 1 - size, 0)))
        conv = Conv((1,) * rank, tuple(padding), (1,) * rank, groups)
        parameters = [self._constant(builder, weight, self._phase_weights(phases, weight, builder))]
        for each in bias:
            codes = builder.constant_of(each)
            assert codes is not None
            grouped = codes.reshape(groups, *(1,) * rank, -1)
            spread = np.broadcast_to(grouped, (groups, *stride, outputs // groups)).reshape(-1)
            parameters.append(self._constant(builder, each, spread))
        result = conv.decompose(builder, value, *parameters)
        # [groups, *phases, outputs of a group, *positions] to [groups, outputs of a group, (position, phase) ...]
        positions = result.shape[1:]
        result = builder.reshape(result, (groups, *stride, outputs // groups, *positions))
        pairs = [place for axis in range(rank) for place in (rank + 2 + axis, 1 + axis)]
        result = builder.add(Permute((0, rank + 1, *pairs)), result)
        result = builder.reshape(
            result, (outputs, *(size * step for size, step in zip(positions, stride, strict=True)))
        )
        for axis, (size, each) in enumerate(zip(spatial, phases, strict=True)):
            if size < result.shape[axis + 1]:
                result = builder.add(Slice(axis + 1, each.crop, each.crop + size), result)
        return result

    def _constant(self, builder: Builder, like: Value, codes: IntegerArray) -> Value:
        format = like.format
        assert isinstance(format, ScalarFormat)
        return builder.integers(np.ascontiguousarray(codes), format, name=like.name)

    def _phase_weights(self, phases: list[_Phases], weight: Value, builder: Builder) -> IntegerArray:
        """Weights [groups x phases x outputs of a group, channels / groups, *taps]; a tap that a phase lacks is 0."""
        array = builder.constant_of(weight)
        assert array is not None
        channels, outputs, *_ = weight.shape
        groups, each = self.groups, channels // self.groups
        grouped = array.reshape(groups, each, *array.shape[1:])
        found = np.zeros((groups, *self.stride, outputs, each, *(axis.taps for axis in phases)), array.dtype)
        for places in product(*(axis.found.items() for axis in phases)):
            phase = tuple(place[0][0] for place in places)
            kernel = tuple(place[0][1] for place in places)
            taps = tuple(place[1] - axis.lowest for place, axis in zip(places, phases, strict=True))
            found[(slice(None), *phase, ..., *taps)] = grouped[(..., *kernel)].swapaxes(1, 2)
        return found.reshape(-1, each, *(axis.taps for axis in phases))

    def _by_spreading(self, builder: Builder, value: Value, weight: Value, *bias: Value) -> Value:
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
        return conv.decompose(builder, spread, self._turned(builder, weight), *bias)

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
