"""concat: operands one after the other along an axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.formats import Exact, Real
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Type, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Concat(Operator):
    """The operands joined along per-sample ``axis``; integer operands must have one fraction."""

    axis: int

    name = "concat"
    takes_codes = True
    aten = ("cat.default", "concat.default", "concatenate.default")
    is_primitive = True

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        rank = len(call.results[0])
        axis = call["dim"] % rank - 1
        if axis < 0:
            raise call.mixes_samples()
        values = [value for value in call["tensors"] if value.size] or call["tensors"][:1]
        return call.builder.add(
            cls(axis), *(value if call.is_stream(value) else call.per_sample(value, rank) for value in values)
        )

    def infer(self, *operands: Value) -> Type:
        first = operands[0]
        others = [value.shape[: self.axis] + value.shape[self.axis + 1 :] for value in operands]
        if any(each != others[0] for each in others):
            raise error(
                "GW0307",
                f"concat of {' and '.join(str([*each.shape]) for each in operands)} along axis {self.axis}",
                note="all other axes must have equal extents",
            )
        size = sum(value.shape[self.axis] for value in operands)
        shape = (*first.shape[: self.axis], size, *first.shape[self.axis + 1 :])
        if any(value.type.is_real for value in operands):
            return Type(shape, Real())
        interval = first.interval
        for value in operands[1:]:
            interval = interval.union(value.interval)
        formats = {value.format for value in operands}
        return Type(shape, first.format if len(formats) == 1 else Exact(first.frac), interval)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        if len({value.format for value in operands}) == 1:
            return builder.add(self, *operands)
        operands = tuple(builder.decoded(value) for value in operands)
        shifts, frac = builder.align(*operands)
        aligned = [
            value if value.frac == frac else builder.map(shift, value, frac=frac)
            for shift, value in zip(shifts, operands, strict=True)
        ]
        return builder.add(self, *aligned)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return np.concatenate(arrays, axis=self.axis + 1)

    def torch(self, *arguments: str) -> str:
        return f"torch.cat([{', '.join(arguments)}], dim={self.axis + 1})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(0), ((3,), (5,)), ("fixed<8,4>", "fixed<8,4>"))
        yield Sample(cls(1), ((2, 3), (2, 4)), ("fixed<8,4>", "ufixed<6,4>"))
        yield Sample(cls(0), ((2, 3), (1, 3), (2, 3)), ("fixed<8,4>",) * 3)
        yield Sample(cls(0), ((2,), (3,), (1,), (2,)), ("fixed<6,4>",) * 4, constants=(0, 2))
        yield Sample(cls(1), ((2, 3), (2, 4)), ("ufixed<6,5>", "fixed<8,4>"), constants=(1,))
