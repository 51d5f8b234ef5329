"""cast: the visible loss of information at the quantised level."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gatewright.ir.block_values import block_axes, check_axis, fitted
from gatewright.ir.formats import Block, CastSpec, Grouping, ScalarFormat, ScaledSigns, parse_cast
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Cast(Operator):
    """The operand rounded into ``spec.format``; its blocks, if it has any, lie along ``axis``, from the end."""

    spec: CastSpec
    axis: int = -1

    name = "cast"
    takes_codes = True
    aten = ("gatewright.cast.default",)
    on_parameters = True

    def infer_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        spec, value = parse_cast(call["spec"]), call.value("value")
        if not isinstance(spec.format, Block):
            return call.builder.add(cls(spec), value)
        axis = call.axis(value, int(call["axis"])) - len(value.shape)
        check_axis(spec.format, len(value.shape), axis, "cast")
        return call.builder.add(cls(replace(spec, format=fitted(spec.format, value.shape[axis])), axis), value)

    def permuted(self, order: tuple[int, ...]) -> Cast | None:
        """The cast that does the same behind a permutation; None where there is none."""
        format, rank = self.spec.format, len(order)
        if isinstance(format, ScaledSigns):
            return self if format.per is Grouping.TENSOR else None
        if not isinstance(format, Block):
            return self
        axes = tuple(order.index(axis % rank) - rank for axis in block_axes(format, self.axis))
        sizes = dict(zip(axes, format.sizes, strict=True))
        if sorted(sizes) != list(range(min(sizes), max(sizes) + 1)):
            return None  # the two axes of a tile lie beside one another
        size = tuple(sizes[axis] for axis in sorted(sizes))
        return Cast(replace(self.spec, format=replace(format, size=size)), max(sizes))

    def is_kept_by(self, shape: Shape, other: Shape) -> bool:
        """Whether the same cast can stand behind a reshape of a constant."""
        format = self.spec.format
        if isinstance(format, Block):
            return self.axis == -1 and len(format.sizes) == 1 and shape[-1:] == other[-1:]
        return not isinstance(format, ScaledSigns) or format.per is Grouping.TENSOR

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        return builder.cast(operands[0], self.spec)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        format = self.spec.format
        assert isinstance(format, ScalarFormat)
        return format.decode(format.encode(arrays[0], self.spec.rounding, self.spec.overflow))

    def torch(self, *arguments: str) -> str:
        return f"gw.cast({arguments[0]}, {self.settings()})"

    def settings(self) -> str:
        """The arguments of a cast in PyTorch behind the tensor."""
        return f'"{self.spec}"' + ("" if self.axis == -1 else f", {self.axis}")

    def text(self) -> str:
        return f"to {self.spec}" + ("" if self.axis == -1 else f" along axis {self.axis}")

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        roundings = ("floor", "half_up", "half_even", "toward_zero", "half_zero", "half_down", "half_away")
        overflows = ("saturate", "saturate_symmetric", "saturate_zero", "wrap")
        for rounding in roundings:
            for overflow in overflows:
                yield Sample(cls(parse_cast(f"fixed<4,1> {rounding} {overflow}")), ((5,),), ("fixed<7,3>",))
        yield Sample(cls(parse_cast("ufixed<4,6> half_up saturate")), ((5,),), ("fixed<7,3>",))
        yield Sample(cls(parse_cast("fixed<3,-2> half_even wrap")), ((5,),), ("ufixed<7,1>",))
