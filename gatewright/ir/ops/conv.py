"""conv: convolution over one or two spatial axes, channels first, as in PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.accumulation import Accumulation
from gatewright.ir.block_products import BlockOperator, Factor, Grouped, factor, sum_of_blocks
from gatewright.ir.block_values import BlockValue
from gatewright.ir.decoding import has_zero
from gatewright.ir.formats import ScalarFormat
from gatewright.ir.operator import Sample, register
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.window import Window
from gatewright.ir.scaled_weights import ScaledWeights, scaled_product
from gatewright.ir.spatial import Pairs, channels_first, channels_last, per_axis, positions, same_padding
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder

LETTERS = ("a", "b")


@register
@dataclass(frozen=True, slots=True)
class Conv(BlockOperator):
    """``[channels, *spatial]`` with a weight ``[out, channels / groups, *kernel]`` and a bias that may be absent.

    ``padding`` holds (before, after) of zeros for every spatial axis. Operands in a block format have their
    blocks along the channels: one for each position and run of ``size`` channels.
    """

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int = 1
    accumulation: Accumulation | None = None

    name = "conv"
    takes_codes = True
    aten = ("conv1d.default", "conv1d.padding", "conv2d.default", "conv2d.padding")
    roles = ("input", "weight", "bias")

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.stride)

    def infer_shape(self, *shapes: Shape) -> Shape:
        value, weight = shapes[0], shapes[1]
        if len(value) != self.rank + 1 or len(weight) != self.rank + 2:
            raise error(
                "GW0351",
                f"conv: an operand of shape {list(value)} and a weight of shape {list(weight)}",
                note=f"a sample is [channels, {self.rank} spatial axes], the weight [out, channels / groups, kernel]",
            )
        if value[0] % self.groups or weight[0] % self.groups or weight[1] * self.groups != value[0]:
            raise error(
                "GW0352",
                f"conv: {self.groups} groups do not divide its channels",
                note=f"{value[0]} channels in, {weight[0]} out, and the weight takes {weight[1]} a group",
                help="make both channel counts multiples of the groups",
            )
        spatial = positions(self.name, value[1:], weight[2:], self.stride, self.padding, self.dilation)
        return (weight[0], *spatial)

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
        stride, dilation = per_axis(call["stride"], rank), per_axis(call["dilation"], rank)
        padding = call["padding"]
        if padding == "valid":
            pairs: Pairs = ((0, 0),) * rank
        elif padding == "same":
            pairs = same_padding(weight.shape[2:], dilation)
        else:
            pairs = tuple((each, each) for each in per_axis(padding, rank, 0))
        operands[0], pairs = _with_padding_before(call.builder, value, pairs)
        return call.builder.add(cls(stride, pairs, dilation, int(call["groups"])), *operands)

    def block_axis(self, operand: int) -> int:
        return -1 if operand == 2 else -1 - self.rank  # a bias has one axis

    def block_length(self, operand: int, shape: Shape) -> int:
        length = shape[self.block_axis(operand)]
        if operand > 1 or operand < 0 or self.groups == 1:
            return length
        channels = length // self.groups if operand == 0 else length
        # A depthwise layer sums one channel: its blocks are left as they are, and refused.
        return channels if channels > 1 else self.groups

    def terms(self, *shapes: Shape) -> int:
        return prod(shapes[1][1:])

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        return self._completed(builder, self._product(builder, operands[0], operands[1]), *operands[2:])

    def decompose_grouped(self, builder: Builder, *operands: Grouped) -> Value:
        value, weight, *bias = operands
        if isinstance(value, Value) and isinstance(weight, ScaledWeights):
            total = scaled_product(builder, weight, lambda signs: self._product(builder, value, signs))
        else:
            total = self.product_of_blocks(builder, operands)
        return self._completed(builder, total, *(each for each in bias if isinstance(each, Value)))

    def _product(self, builder: Builder, value: Value, weight: Value) -> Value:
        """The sums of products, channels last."""
        if self._is_padded and not has_zero(value.format):
            value = builder.decoded(value)
        kernel, outputs = weight.shape[2:], weight.shape[0]
        value = channels_last(builder, value)
        is_point = self._is_point(kernel)
        if not is_point:
            value = self._windows(builder, value, kernel)
        spatial = value.shape[: self.rank]
        rows = " ".join(f"r{axis}" for axis in range(self.rank))
        taps = "" if is_point else " ".join(LETTERS[: self.rank])
        weight = _without_taps(builder, weight) if is_point else weight
        if self.groups == 1:
            return builder.contract(f"{rows} {taps} c, n c {taps} -> {rows} n", value, weight)
        each = value.shape[-1] // self.groups
        value = builder.reshape(value, (*value.shape[:-1], self.groups, each))
        weight = _reshaped(builder, weight, (self.groups, outputs // self.groups, *weight.shape[1:]))
        total = builder.contract(f"{rows} {taps} g c, g n c {taps} -> {rows} g n", value, weight)
        return builder.reshape(total, (*spatial, outputs))

    def block_product(self, builder: Builder, left: Value | BlockValue, right: Value | BlockValue) -> Value:
        """One block for every kernel position and run of channels; channels last."""
        settings = self.accumulate
        outputs, channels, *kernel = right.shape
        check_groups(self, channels, settings.size, builder.place)
        axis = self.block_axis(0)
        value = left
        if isinstance(left, Value) and self._is_padded and not has_zero(left.format):
            value = builder.decoded(left)
        names = [*(f"r{axis}" for axis in range(self.rank)), *LETTERS[: self.rank], "g", "j", "k"]
        stream = factor(builder, " ".join([*names[: self.rank], "j", "k"]), value, settings.size, axis)
        blocks = (self.groups, channels // settings.size, settings.size)
        stream = self._block_windows(builder, stream, tuple(kernel), " ".join(names), blocks)
        taps = " ".join(LETTERS[: self.rank])
        weight = factor(builder, f"n {taps} j k", right, settings.size, axis)
        grouped = (self.groups, outputs // self.groups, *kernel, *blocks[1:])
        weight = weight.renamed(builder, f"g n {taps} j k", grouped)
        total = sum_of_blocks(builder, stream, weight, f"{taps} j", settings.spec)
        return builder.reshape(total, (*total.shape[: self.rank], outputs))

    def _block_windows(
        self, builder: Builder, side: Factor, kernel: tuple[int, ...], names: str, blocks: Shape
    ) -> Factor:
        """Elements and scales under every position of the kernel, under ``names``; padding is zero in both."""
        spatial = side.elements.shape[: self.rank]
        scales = side.scales
        element_zero, scale_zero = 0, 0
        if self._is_padded and not has_zero(side.elements.format):
            scale_zero = zero_scale(scales)
        elements = builder.reshape(side.elements, (*spatial, prod(blocks)))
        if not self._is_point(kernel):
            elements = self._windows(builder, elements, kernel, element_zero)
            scales = None if scales is None else self._windows(builder, scales, kernel, scale_zero)
        positions = elements.shape[: self.rank]
        ones = (*positions, *kernel, *blocks)
        return Factor(
            tuple(names.split()),
            builder.reshape(elements, ones),
            None if scales is None else builder.reshape(scales, ones[:-1]),
        )

    @property
    def _is_padded(self) -> bool:
        return any(amounts != (0, 0) for amounts in self.padding)

    def _is_point(self, kernel: Sequence[int]) -> bool:
        """Whether every element is a window by itself."""
        return all(
            (size, step, amounts) == (1, 1, (0, 0))
            for size, step, amounts in zip(kernel, self.stride, self.padding, strict=True)
        )

    def _windows(self, builder: Builder, value: Value, kernel: Sequence[int], fill: int = 0) -> Value:
        return builder.add(Window(tuple(kernel), self.stride, self.padding, self.dilation, fill), value)

    def _completed(self, builder: Builder, total: Value, *bias: Value) -> Value:
        """The result, channels first, from the sums of products and a bias that may be absent."""
        return channels_first(builder, self.with_bias(builder, total, *bias))

    def torch(self, *arguments: str) -> str:
        value, *parameters = arguments
        if self.accumulation is not None:
            return self._blocks_in_torch(self.accumulation, *arguments)
        padding = tuple(before for before, _ in self.padding)
        if any(before != after for before, after in self.padding):
            flat = [amount for pair in reversed(self.padding) for amount in pair]
            value, padding = f"F.pad({value}, {flat})", (0,) * self.rank
        bias = parameters[1] if len(parameters) == 2 else "None"
        settings = f"{self.stride}, {padding}, {self.dilation}, {self.groups}"
        return f"F.conv{self.rank}d({value}, {parameters[0]}, {bias}, {settings})"

    def _blocks_in_torch(self, accumulation: Accumulation, value: str, weight: str, bias: str = "None") -> str:
        settings = f"{self.stride}, {self.padding}, {self.dilation}, {self.groups}, {accumulation.arguments()}"
        return f"gw.block_conv({value}, {weight}, {bias}, {settings})"

    def text(self) -> str:
        pairs = " ".join(f"{name}={getattr(self, name)}" for name in ("stride", "padding", "dilation", "groups"))
        return pairs if self.accumulation is None else f"{pairs} {self.accumulation.text()}"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        wide = ("fixed<8,4>", "fixed<6,4>", "fixed<8,6>")
        plain = ((0, 0), (0, 0))
        yield Sample(cls((1, 1), plain, (1, 1)), ((3, 6, 5), (4, 3, 3, 2), (4,)), wide, constants=(1, 2))
        yield Sample(cls((2, 1), ((1, 1), (0, 1)), (1, 2)), ((2, 7, 6), (3, 2, 3, 3)), wide[:2], constants=(1,))
        yield Sample(cls((1, 1), plain, (1, 1)), ((6, 3, 4), (5, 6, 1, 1), (5,)), wide, constants=(1, 2))
        yield Sample(cls((1, 1), ((1, 1), (1, 1)), (1, 1), 6), ((6, 5, 4), (6, 1, 3, 3), (6,)), wide, constants=(1, 2))
        yield Sample(cls((1, 2), plain, (1, 1), 2), ((6, 4, 5), (4, 3, 2, 1)), wide[:2], constants=(1,))
        yield Sample(cls((2,), ((2, 2),), (1,)), ((3, 11), (4, 3, 5), (4,)), wide, constants=(1, 2))


def _with_padding_before(builder: Builder, value: Value, pairs: Pairs) -> tuple[Value, Pairs]:
    """The operand without zeros that were put around it before, and the padding that stands for them as well.

    Blocks, and formats that have no zero, are padded by the convolution itself.
    """
    node = builder.producer(value)
    if node is None or not isinstance(node.op, Pad) or node.op.fill != 0.0 or node.op.amounts[0] != (0, 0):
        return value, pairs
    around = node.op.amounts[1:]
    merged = tuple((a + c, b + d) for (a, b), (c, d) in zip(around, pairs, strict=True))
    return _with_padding_before(builder, node.inputs[0], merged)


def _reshaped(builder: Builder, value: Value, shape: Shape) -> Value:
    """A constant under another shape; it stays a constant."""
    array = builder.constant_of(value)
    if array is None:
        return builder.reshape(value, shape)
    return builder.integers(array.reshape(shape), value.format, name=value.name)


def _without_taps(builder: Builder, weight: Value) -> Value:
    """The weight of a kernel of one element as [out, channels]."""
    return _reshaped(builder, weight, weight.shape[:2])


def check_groups(op: Conv, channels: int, size: int, place: str) -> None:
    """GW0380 where blocks do not fill the channels that one result of the layer ``place`` sums."""
    if channels % size == 0:
        return
    raise error(
        "GW0380",
        f"conv: blocks of {size} do not fill the {channels} channels of one of its {op.groups} groups",
        note=f"a result sums {channels} channels of every kernel position, and a block that reaches beyond them "
        "has elements of another result's sum",
        help=f'write [name."{place}"] input = "fixed<8,4>" and weight = "fixed<8,auto>" for this layer'
        + (f", or a block size that divides the channels of a group, such as {channels}" if channels > 1 else ""),
    )


def zero_scale(scales: Value | None) -> int:
    """The code of a scale that makes a block zero whose elements cannot be: zero itself, or NaN, which counts as it."""
    assert scales is not None
    format = scales.format
    assert isinstance(format, ScalarFormat)
    # Every format of a scale has one of the two.
    return 0 if has_zero(format) else int(format.encode(np.asarray([np.nan]))[0])
