"""pad: constant elements before and after each axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.intervals import IntegerArray, Interval
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Type, Value

if TYPE_CHECKING:
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Pad(Operator):
    """``amounts`` holds (before, after) for every per-sample axis; ``code`` fills the new elements.

    On real values ``code`` is unused and ``fill`` is the real number; legalisation sets ``code``.
    """

    amounts: tuple[tuple[int, int], ...]
    fill: float = 0.0
    code: int = 0

    name = "pad"
    is_primitive = True

    def infer(self, *operands: Value) -> Type:
        (value,) = operands
        shape = tuple(size + before + after for size, (before, after) in zip(value.shape, self.amounts, strict=True))
        interval = None if value.type.is_real else value.interval.union(Interval.constant(self.code))
        return Type(shape, value.format, interval)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (value,) = operands
        scaled = self.fill * 2.0**value.frac
        if scaled != round(scaled):
            raise error(
                "GW0309",
                f"pad with {self.fill} in {value.format}",
                note=f"{self.fill} x 2^{value.frac} = {scaled} is not a whole code",
                help="pad with a value that the format holds, or with more fraction bits",
            )
        return builder.add(replace(self, code=round(scaled)), value)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return np.pad(arrays[0], ((0, 0), *self.amounts), constant_values=self.code)

    def torch(self, *arguments: str) -> str:
        flat = [amount for pair in reversed(self.amounts) for amount in pair]
        return f"F.pad({arguments[0]}, {flat}, value={self.fill!r})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(((1, 2),)), ((4,),), ("fixed<8,4>",))
        yield Sample(cls(((0, 1), (2, 1)), fill=-0.5, code=-8), ((2, 3),), ("fixed<8,4>",))
