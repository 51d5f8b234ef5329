"""Floating-point values into blocks that share a power of two, compared and shifted by their exponents.

A bfloat16 reaches over 260 bits as an integer. Here a block's scale comes from its largest exponent field, and
each significand moves by its distance from that field, so that nothing is wider than an element needs.

A finite value is U x 2^x in units of its format's finest grid: U holds the implicit one, x is max(field, 1) - 1. The
leading one of the block's largest magnitude stands at position P of that grid, and the scale's code is P + a
constant, but at least 0. A NaN or an infinity makes the scale NaN and the elements zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.diagnostics import error
from gatewright.ir.builder import Builder
from gatewright.ir.casts import cast_term
from gatewright.ir.decoding import lowest_exponent
from gatewright.ir.encoding import MAGNITUDE_ROUNDINGS, limited_code, rounded_magnitude, significand_code_of
from gatewright.ir.expressions import Term
from gatewright.ir.formats import (
    Binary,
    Block,
    CastSpec,
    Exact,
    Fixed,
    Format,
    Overflow,
    PowerOfTwo,
    Rounding,
    SignificandFormat,
    Underflow,
)
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.types import Value

_TO_NEAREST = (
    Rounding.HALF_EVEN, Rounding.HALF_UP, Rounding.HALF_DOWN, Rounding.HALF_ZERO, Rounding.HALF_AWAY,
)  # fmt: skip


def has_float_path(source: Format, block: Block) -> bool:
    """Whether values of ``source`` are quantised into ``block`` by their exponents."""
    return (
        isinstance(source, SignificandFormat)
        and source.layout.underflow in (Underflow.GRADUAL, Underflow.FLUSH)
        and isinstance(block.scale, PowerOfTwo)
    )


def quantise_floats(builder: Builder, blocks: Value, spec: CastSpec) -> tuple[Value, Value]:
    """Elements and scales of ``blocks`` [..., blocks, size], codes of a floating-point format.

    Raises GW0384 where values that the scale format does not reach would wrap around.
    """
    format = spec.format
    assert isinstance(format, Block)
    plan = FloatBlocks.of(blocks.format, spec, blocks.name)
    axes = (len(blocks.shape) - 1,)
    found = [builder.add(Reduce("max", axes), builder.map(plan.key, blocks))]
    if plan.reads_subnormals:
        found.append(builder.add(Reduce("or", axes), builder.map(plan.fraction, blocks)))
    scales = builder.map(plan.scale, *found, format=format.scale)
    bases = builder.map(plan.base, *found)
    return builder.map(plan.element, blocks, bases, format=format.element), scales


@dataclass(frozen=True, slots=True)
class FloatBlocks:
    """The expressions of one quantiser, and the constants in them."""

    source: SignificandFormat
    format: Block
    spec: CastSpec

    @staticmethod
    def of(source: Format, spec: CastSpec, name: str) -> FloatBlocks:
        """The plan for codes of ``source``; GW0384 where values beyond the scale would wrap around."""
        assert isinstance(source, SignificandFormat)
        assert isinstance(spec.format, Block)
        plan = FloatBlocks(source, spec.format, spec)
        if plan._excess and spec.overflow is Overflow.WRAP:
            raise error(
                "GW0384",
                f"{name}: its values lie outside the reach of {spec.format.scale}, and {spec} wraps",
                note=f"the largest magnitude needs a scale code that is {plan._excess} above the largest",
                help="use saturate, or a scale format with more exponent bits",
            )
        return plan

    # ---- constants ---------------------------------------------------------------------------
    @property
    def _scale(self) -> PowerOfTwo:
        assert isinstance(self.format.scale, PowerOfTwo)
        return self.format.scale

    @property
    def _mantissa(self) -> int:
        return self.source.layout.mantissa

    @property
    def _top_field(self) -> int:
        """The exponent field of the largest finite value."""
        return self.source.layout.largest >> self._mantissa

    @property
    def _has_specials(self) -> bool:
        return self.source.has_nan or self.source.has_infinity

    def _position(self, field: int) -> int:
        """P for a block whose largest field this is; of subnormals, the highest one possible."""
        return max(field, 1) - 1 + self._mantissa if field else self._mantissa - 1

    @property
    def _offset(self) -> int:
        """The scale's code less P."""
        return self.source.layout.lowest - self.format.element.largest_exponent + self._scale.exponent_bias

    @property
    def _excess(self) -> int:
        """How far the scale of the largest values lies above the largest one there is."""
        return max(self._position(self._top_field) + self._offset - self._scale.layout.largest, 0)

    @property
    def _fits(self) -> bool:
        """Whether an element is at most rounded up to one more than its largest, and then limited on both sides."""
        return self.spec.overflow is Overflow.SATURATE_SYMMETRIC and not self._excess

    @property
    def reads_subnormals(self) -> bool:
        """Whether blocks of subnormals alone have different scales."""
        return self._has_subnormals and self._position(0) + self._offset > 0

    @property
    def _has_subnormals(self) -> bool:
        return self.source.layout.underflow is Underflow.GRADUAL and self._mantissa > 0

    @property
    def _nearest(self) -> int:
        """The smallest P - x of a value in its block, P as the scale's limits move it; what is nearer saturates."""
        return min(self._mantissa - min(self._excess, 2), self._lowest_top)

    @property
    def _lowest_top(self) -> int:
        """The smallest P of a block that is not zero, as the scale's limit raises it."""
        lowest = self._position(0) if self._has_subnormals else self._mantissa
        return max(0 if self.reads_subnormals else lowest, -self._offset)

    @property
    def _void(self) -> int:
        """The base of a block that is NaN: every element is far below it."""
        fields = 1 << (self.source.layout.magnitude_bits - self._mantissa)
        highest = max(self._position(self._top_field) - self._nearest + 1, fields + self._reach)
        return (1 << highest.bit_length()) - 1

    @property
    def _reach(self) -> int:
        """From this distance on a value only counts as not zero."""
        element = self.format.element
        if isinstance(element, SignificandFormat) and element.layout.underflow is Underflow.GRADUAL:
            return max(self._steps + element.layout.mantissa + 2, 0)
        return max(self._mantissa + 2 - self._shift, 0)

    @property
    def _shift(self) -> int:
        """An element is U / 2^(distance + this) in units of its finest grid."""
        return self._nearest - self.format.element.largest_exponent + lowest_exponent(self.format.element)

    @property
    def _steps(self) -> int:
        """The exponent field of a floating-point element at distance 0, less 1, if U has its leading one."""
        element = self.format.element
        assert isinstance(element, SignificandFormat)
        return self._mantissa - element.layout.mantissa - self._shift

    # ---- expressions -------------------------------------------------------------------------
    def key(self, code: Term) -> Term:
        """The exponent field, or one above the largest for NaN and infinity."""
        layout = self.source.layout
        magnitude = code.wrap(layout.magnitude_bits, False)
        field = magnitude >> self._mantissa
        beyond = self._top_field + 1
        if not self._has_specials or (beyond << self._mantissa) == layout.largest + 1:
            return field.minimum(beyond) if self._has_specials else field
        return (magnitude > layout.largest).select(beyond, field)

    def fraction(self, code: Term) -> Term:
        """The bits below the exponent field."""
        return code.wrap(self._mantissa, False)

    def _found(self, field: Term, fractions: tuple[Term, ...]) -> Term:
        """P, or less where the scale's code is 0 in any case."""
        if not fractions:
            return field + (self._mantissa - 1)
        lowest = (self._mantissa - 1) - fractions[0].leading_zeros(self._mantissa).minimum(self._mantissa - 1)
        return (field > 0).select(field + (self._mantissa - 1), lowest)

    def scale(self, field: Term, *fractions: Term) -> Term:
        """The scale's code."""
        code = (self._found(field, fractions) + self._offset).maximum(0)
        if self._excess:
            code = code.minimum(self._scale.layout.largest)
        if self._position(0) + self._offset > 0:
            largest = field | fractions[0] if fractions else field
            code = (largest > 0).select(code, 0)
        if not self._has_specials:
            return code
        nan = self._scale.layout.nan
        assert nan is not None
        return (field > self._top_field).select(nan, code)

    def base(self, field: Term, *fractions: Term) -> Term:
        """What an element's max(field, 1) is subtracted from to find its distance below the block's top."""
        base = self._found(field, fractions).maximum(-self._offset)
        if self._excess:
            base = base.minimum(self._scale.layout.largest - self._offset)
        base = base - (self._nearest - 1)
        return (field > self._top_field).select(self._void, base) if self._has_specials else base

    def element(self, code: Term, base: Term) -> Term:
        """The element's code."""
        layout, element = self.source.layout, self.format.element
        field = code.wrap(layout.magnitude_bits, False) >> self._mantissa
        normal = field > 0
        if layout.underflow is Underflow.FLUSH:
            units = normal.select(self.fraction(code) | (1 << self._mantissa), 0)
        else:
            units = self.fraction(code) | (normal << self._mantissa)
        if self._has_specials and (self.spec.rounding not in _TO_NEAREST or isinstance(element, Binary)):
            units = base.equals(self._void).select(0, units)
        negative = (code >> layout.magnitude_bits).wrap(1, False) if layout.signed else code.builder.constant(0)
        distance = base - (field | (normal ^ 1))
        # Only beyond the scale's reach can the difference be negative.
        distance = distance.maximum(0) if self._excess else distance.wrap(base.interval.width, False)
        if isinstance(element, Fixed) and self.spec.rounding in MAGNITUDE_ROUNDINGS and self._fits:
            return self._symmetric(units, negative, distance)
        distance = distance.minimum(self._reach)
        if isinstance(element, SignificandFormat) and element.layout.underflow is Underflow.GRADUAL:
            return self._float_element(units, negative, distance)
        return self._other_element((units << self._reach) >> distance, negative)

    def _other_element(self, aligned: Term, negative: Term) -> Term:
        """The element's code for a magnitude with the block's binary point."""
        element, rounding, overflow = self.format.element, self.spec.rounding, self.spec.overflow
        spec = CastSpec(element, rounding, overflow)
        frac = self._reach + self._shift - lowest_exponent(element)
        if isinstance(element, SignificandFormat):
            return significand_code_of(aligned, negative, frac, element, spec)
        return cast_term(negative.select(-aligned, aligned), Exact(frac), spec)

    def _float_element(self, units: Term, negative: Term, distance: Term) -> Term:
        """The element's code: a normal one needs no shift, its exponent is the distance."""
        element = self.format.element
        assert isinstance(element, SignificandFormat)
        mantissa, lost = element.layout.mantissa, self._reach - self._steps
        steps = (self._steps - distance).maximum(0)
        # Zero has no leading one, and neither has a subnormal value that becomes a normal element.
        highest = self._steps + self._nearest - self._lowest_top
        if self._has_subnormals:
            left = units.leading_zeros(self._mantissa + 1).minimum(max(highest, 0)).minimum(steps)
            units = units.shift_left_within(left, self._mantissa + 1)
            steps = (steps - left).maximum(0)
            highest -= self._mantissa + 1
        down = (distance - self._steps).maximum(0)
        aligned = (units << lost) >> down
        code = (steps << mantissa) + rounded_magnitude(
            aligned, negative, lost + self._mantissa - mantissa, self.spec.rounding
        )
        if highest > 0:
            code = (units > 0).select(code, 0)
        cast = CastSpec(element, self.spec.rounding, self.spec.overflow)
        code = limited_code(code, negative, element, cast)
        if element.layout.signed:
            return code | (negative << element.layout.magnitude_bits)
        return negative.select(0, code)

    def _symmetric(self, units: Term, negative: Term, distance: Term) -> Term:
        """A fixed-point element that only its rounding takes beyond the format: one adder for rounding and sign."""
        element, drop, bits = self.format.element, self._reach + self._shift, max(self._reach.bit_length(), 1)
        high = element.code_interval()[1]
        # From reach on nothing is left to round, and one step before it no whole number is.
        far = (distance >> bits) > 0
        if self._reach - 1 <= 1 << (bits - 1):
            top = (distance >> (bits - 1)) > 0
            amount = (top << (bits - 1)) | distance.wrap(bits - 1, False)
        else:
            amount = far.select((1 << bits) - 1, distance.wrap(bits, False))
        aligned = (units << self._reach) >> amount
        whole = (aligned >> drop).wrap(high.bit_length(), False)
        half = (aligned >> (drop - 1)).wrap(1, False)
        sticky = aligned.wrap(drop - 1, False) > 0 if drop > 1 else aligned.builder.constant(0)
        match self.spec.rounding:
            case Rounding.HALF_EVEN:
                up = half & (sticky | whole.wrap(1, False))
            case Rounding.HALF_ZERO:
                up = half & sticky
            case Rounding.HALF_AWAY:
                up = half
            case _:
                up = aligned.builder.constant(0)
        up = up & ((whole.equals(high) | far) ^ 1)
        if not element.is_signed:
            return negative.select(0, whole + up).wrap(element.width, False)
        # -(whole + up) is ~whole + 1 - up, and 1 - up is another bit.
        return ((whole ^ -negative) + (up ^ negative)).wrap(element.width, True)
