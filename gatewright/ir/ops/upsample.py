"""upsample: every element repeated along the spatial axes (nearest neighbour)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.expand import Expand
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Upsample(Operator):
    """Each spatial axis of ``[channels, *spatial]`` grows by its whole ``factor``."""

    factors: tuple[int, ...]

    name = "upsample"
    aten = (
        "upsample_nearest1d.vec",
        "upsample_nearest1d.default",
        "upsample_nearest2d.vec",
        "upsample_nearest2d.default",
    )

    def infer_shape(self, *shapes: Shape) -> Shape:
        channels, *spatial = shapes[0]
        return (channels, *(size * factor for size, factor in zip(spatial, self.factors, strict=True)))

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        value = call.value("input" if "input" in call.arguments else "self")
        shape = call.result_shape()
        if any(after % before for before, after in zip(value.shape[1:], shape[1:], strict=True)):
            raise call.refused(
                f"from {list(value.shape[1:])} to {list(shape[1:])}",
                note="nearest upsampling repeats every element a whole number of times",
                help="choose an output size that is a multiple of the input's",
            )
        return call.builder.add(cls(tuple(b // a for a, b in zip(value.shape[1:], shape[1:], strict=True))), value)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (value,) = operands
        spatial = value.shape[1:]
        # The rows are repeated before the columns, so that only a row of the input is kept.
        for axis in range(len(spatial)):
            if self.factors[axis] == 1:
                continue
            shape = value.shape
            split = (*shape[: axis + 2], 1, *shape[axis + 2 :])
            grown = (*shape[: axis + 2], self.factors[axis], *shape[axis + 2 :])
            value = Expand(grown).decompose(builder, builder.reshape(value, split))
            merged = (*shape[: axis + 1], shape[axis + 1] * self.factors[axis], *shape[axis + 2 :])
            value = builder.reshape(value, merged)
        return value

    def torch(self, *arguments: str) -> str:
        value = arguments[0]
        for axis, factor in enumerate(self.factors):
            if factor > 1:
                value = f"{value}.repeat_interleave({factor}, {axis + 2})"
        return value

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls((2, 2)), ((3, 4, 2),), ("fixed<8,4>",))
        yield Sample(cls((1, 3)), ((2, 2, 5),), ("fixed<6,4>",))
        yield Sample(cls((4,)), ((3, 5),), ("fixed<6,4>",))
