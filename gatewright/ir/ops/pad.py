"""pad: constant elements before and after each axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.formats import ScalarFormat
from gatewright.ir.intervals import IntegerArray, Interval, fits_int64
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.slice import Slice
from gatewright.ir.types import Type, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
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
    takes_codes = True
    aten = ("constant_pad_nd.default", "pad.default")
    is_primitive = True

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        mode = call.get("mode", "constant")
        if mode != "constant":
            raise call.refused(f"padding mode {mode!r} is not supported", help="pad with a constant")
        value = call.value("self")
        flat = list(call["pad"])
        pairs = [(flat[position], flat[position + 1]) for position in range(0, len(flat), 2)]
        pairs += [(0, 0)] * (call.rank(value) - len(pairs))
        if len(pairs) > len(value.shape) and pairs.pop() != (0, 0):
            raise call.mixes_samples()
        amounts = tuple(reversed(pairs))
        for axis, (before, after) in enumerate(amounts):
            if before < 0 or after < 0:
                stop = value.shape[axis] + min(after, 0)
                value = call.builder.add(Slice(axis, max(-before, 0), stop), value)
        grown = tuple((max(before, 0), max(after, 0)) for before, after in amounts)
        if not any(before or after for before, after in grown):
            return value
        return call.builder.add(cls(grown, fill=float(call.get("value") or 0.0)), value)

    def infer(self, *operands: Value) -> Type:
        (value,) = operands
        shape = tuple(size + before + after for size, (before, after) in zip(value.shape, self.amounts, strict=True))
        interval = None if value.type.is_real else value.interval.union(Interval.constant(self.code))
        return Type(shape, value.format, interval)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (value,) = operands
        format = value.format
        assert isinstance(format, ScalarFormat)
        code = int(format.encode(np.asarray([self.fill]))[0])
        held = format.decode_fraction(code)
        if held != Fraction(self.fill):
            raise error(
                "GW0309",
                f"pad with {self.fill} in {format}",
                note=f"{format} does not hold {self.fill}; the nearest that it holds is {float(held):g}",
                help="pad with a value that the format holds, or use the padding of the convolution or pooling itself",
            )
        return builder.add(replace(self, code=code), value)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        # A Python integer, so that no 64-bit one gets into an array of wider ones, nor a wider one into 64 bits.
        codes = arrays[0] if fits_int64(Interval.constant(self.code)) else arrays[0].astype(object)
        return np.pad(codes, ((0, 0), *self.amounts), constant_values=np.array(self.code, dtype=object))

    def torch(self, *arguments: str) -> str:
        flat = [amount for pair in reversed(self.amounts) for amount in pair]
        return f"F.pad({arguments[0]}, {flat}, value={self.fill!r})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(((1, 2),)), ((4,),), ("fixed<8,4>",))
        yield Sample(cls(((0, 1), (2, 1)), fill=-0.5, code=-8), ((2, 3),), ("fixed<8,4>",))
