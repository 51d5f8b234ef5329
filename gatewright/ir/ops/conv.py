"""conv: convolution over one or two spatial axes, channels first, as in PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.diagnostics import error
from gatewright.ir.decoding import has_zero
from gatewright.ir.expressions import Term
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.window import Window
from gatewright.ir.spatial import Pairs, channels_first, channels_last, per_axis, positions, same_padding
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder

LETTERS = ("a", "b")


@register
@dataclass(frozen=True, slots=True)
class Conv(Operator):
    """``[channels, *spatial]`` with a weight ``[out, channels / groups, *kernel]`` and a bias that may be absent.

    ``padding`` holds (before, after) of zeros for every spatial axis.
    """

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int = 1

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
        return call.builder.add(cls(stride, pairs, dilation, int(call["groups"])), *operands)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        value, weight = operands[0], operands[1]
        if any(amounts != (0, 0) for amounts in self.padding) and not has_zero(value.format):
            value = builder.decoded(value)
        kernel, outputs = weight.shape[2:], weight.shape[0]
        value = channels_last(builder, value)
        is_point = all(
            (size, step, amounts) == (1, 1, (0, 0))
            for size, step, amounts in zip(kernel, self.stride, self.padding, strict=True)
        )
        if not is_point:
            value = builder.add(Window(kernel, self.stride, self.padding, self.dilation), value)
        spatial = value.shape[: self.rank]
        rows = " ".join(f"r{axis}" for axis in range(self.rank))
        taps = "" if is_point else " ".join(LETTERS[: self.rank])
        weight = _without_taps(builder, weight) if is_point else weight
        if self.groups == 1:
            total = builder.contract(f"{rows} {taps} c, n c {taps} -> {rows} n", value, weight)
        else:
            each = value.shape[-1] // self.groups
            value = builder.reshape(value, (*value.shape[:-1], self.groups, each))
            weight = _reshaped(builder, weight, (self.groups, outputs // self.groups, *weight.shape[1:]))
            total = builder.contract(f"{rows} {taps} g c, g n c {taps} -> {rows} g n", value, weight)
            total = builder.reshape(total, (*spatial, outputs))
        if len(operands) == 3:
            offset = builder.decoded(operands[2])
            (shift_total, shift_bias), frac = builder.align(total, offset)

            def add_bias(total: Term, bias: Term) -> Term:
                return shift_total(total) + shift_bias(bias)

            total = builder.map(add_bias, total, offset, frac=frac)
        return channels_first(builder, total)

    def torch(self, *arguments: str) -> str:
        value, *parameters = arguments
        padding = tuple(before for before, _ in self.padding)
        if any(before != after for before, after in self.padding):
            flat = [amount for pair in reversed(self.padding) for amount in pair]
            value, padding = f"F.pad({value}, {flat})", (0,) * self.rank
        bias = parameters[1] if len(parameters) == 2 else "None"
        settings = f"{self.stride}, {padding}, {self.dilation}, {self.groups}"
        return f"F.conv{self.rank}d({value}, {parameters[0]}, {bias}, {settings})"

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


def _reshaped(builder: Builder, value: Value, shape: Shape) -> Value:
    """A constant under another shape; it stays a constant."""
    array = builder.constant_of(value)
    if array is None:
        return builder.reshape(value, shape)
    return builder.integers(array.reshape(shape), value.format, name=value.name)


def _without_taps(builder: Builder, weight: Value) -> Value:
    """The weight of a kernel of one element as [out, channels]."""
    return _reshaped(builder, weight, weight.shape[:2])
