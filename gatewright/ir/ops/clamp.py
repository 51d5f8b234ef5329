"""clamp: values limited to a range; hardtanh and ReLU6 are clamps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import isinf
from typing import TYPE_CHECKING

from gatewright.ir.expressions import Term
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.maximum import Maximum
from gatewright.ir.ops.minimum import Minimum
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


MAXIMUM_BOUND_BITS = 24
"""A bound with more significant bits becomes a constant operand, so that it is cast visibly."""


@register
@dataclass(frozen=True, slots=True)
class Clamp(Operator):
    """The operand limited to ``low .. high``, of which either may be None.

    Exact: the bounds are dyadic numbers of few bits.
    """

    low: float | None
    high: float | None

    name = "clamp"
    aten = (
        "clamp.default",
        "clamp.Tensor",
        "clamp_min.default",
        "clamp_max.default",
        "clip.default",
        "hardtanh.default",
        "relu6.default",
    )

    def infer_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        low, high = _bounds(call)
        value = call.value("self")
        if isinstance(low, Value) or isinstance(high, Value) or not (is_short(low) and is_short(high)):
            if low is not None:
                lowest = low if isinstance(low, Value) else call.scalar(low)
                value = call.builder.add(Maximum(), *call.broadcast_values(value, lowest))
            if high is not None:
                highest = high if isinstance(high, Value) else call.scalar(high)
                value = call.builder.add(Minimum(), *call.broadcast_values(value, highest))
            return value
        return call.builder.add(cls(low, high), value)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (value,) = operands
        bounds = [Fraction(each) for each in (self.low, self.high) if each is not None]
        frac = max([value.frac, *(each.denominator.bit_length() - 1 for each in bounds)])
        codes = [None if each is None else int(Fraction(each) * 2**frac) for each in (self.low, self.high)]

        def limit(x: Term) -> Term:
            x = x << (frac - value.frac)
            x = x if codes[0] is None else x.maximum(codes[0])
            return x if codes[1] is None else x.minimum(codes[1])

        return builder.map(limit, value, frac=frac)

    def torch(self, *arguments: str) -> str:
        return f"torch.clamp({arguments[0]}, {self.low!r}, {self.high!r})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(0.0, 6.0), ((6,),), ("fixed<8,4>",))
        yield Sample(cls(-1.0, 1.0), ((3, 5),), ("fixed<8,3>",))
        yield Sample(cls(None, 0.375), ((5,),), ("fixed<6,1>",))
        yield Sample(cls(-0.5, None), ((5,),), ("fixed<6,4>",))


Bound = float | Value | None


def is_short(bound: float | None) -> bool:
    """Whether a bound is a dyadic number of few bits, which integers can hold exactly."""
    if bound is None:
        return True
    exact = Fraction(bound)
    return exact.numerator.bit_length() <= MAXIMUM_BOUND_BITS and exact.denominator <= 1 << MAXIMUM_BOUND_BITS


def _bounds(call: AtenCall) -> tuple[Bound, Bound]:
    if call.target == "relu6.default":
        return 0.0, 6.0
    names = ("min_val", "max_val") if call.target == "hardtanh.default" else ("min", "max")
    low, high = (_bound(call.get(name)) for name in names)
    return low, high


def _bound(given: object) -> Bound:
    """A bound as it was given; an infinite one limits nothing."""
    if isinstance(given, Value) or given is None:
        return given
    number = float(given)  # pyright: ignore[reportArgumentType]
    return None if isinf(number) else number
