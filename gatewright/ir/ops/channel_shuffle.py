"""channel_shuffle: the channels of groups interleaved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.permute import Permute
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class ChannelShuffle(Operator):
    """Channel ``g * n + k`` of ``groups`` groups of n becomes channel ``k * groups + g``."""

    groups: int

    name = "channel_shuffle"
    aten = ("channel_shuffle.default", "native_channel_shuffle.default")

    def infer_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        return call.builder.add(cls(int(call["groups"])), call.value("self"))

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (value,) = operands
        channels, *spatial = value.shape
        split = builder.reshape(value, (self.groups, channels // self.groups, *spatial))
        order = (1, 0, *range(2, len(split.shape)))
        return builder.reshape(builder.add(Permute(order), split), value.shape)

    def torch(self, *arguments: str) -> str:
        return f"F.channel_shuffle({arguments[0]}, {self.groups})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(2), ((6, 3, 2),), ("fixed<8,4>",))
        yield Sample(cls(3), ((6, 2, 3),), ("fixed<5,4>",))
