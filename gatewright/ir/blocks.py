"""Values in block formats at the integer level: elements and scales as two streams, and products of them.

A product of block formats is, block by block, an exact dot product of elements, then a shift by the
scales into a fixed-point window by one visible cast, then an exact sum (OCP Microscaling Formats 1.0,
section 6.2, leaves the accumulation to the implementation; here it is part of the operator).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.block_division import check_division, element_term, scale_term
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.casts import cast_term, overflow_term
from gatewright.ir.decoding import digits, lowest_exponent
from gatewright.ir.encoding import significand_code_of
from gatewright.ir.expressions import Term
from gatewright.ir.formats import Block, CastSpec, Exact, Fixed, Format, PowerOfTwo, ScaledSigns, SignificandFormat
from gatewright.ir.graph import Node
from gatewright.ir.intervals import IntegerArray, Interval
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.linear import Linear
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.scaled_weights import ScaledWeights, scaled_linear, scaled_weights
from gatewright.ir.types import Shape, Type, Value


@dataclass(frozen=True, slots=True)
class BlockValue:
    """A tensor in a block format along its last axis: codes ``elements`` [..., blocks, size] and
    ``scales`` [..., blocks, 1]. ``shape`` is the tensor's own.
    """

    elements: Value
    scales: Value
    format: Block
    shape: Shape

    @property
    def blocks(self) -> int:
        """Blocks along the last axis."""
        return self.elements.shape[-2]


def block_shape(format: Block, shape: Shape, role: str) -> Shape:
    """``shape`` with its last axis split into blocks; GW0380 where they do not fill it."""
    size = format.sizes[-1]
    length = shape[-1] if shape else 1
    if length % size:
        raise error(
            "GW0380",
            f"{role}: blocks of {size} do not fill an axis of {length}",
            note=f"{format} shares one scale among {size} elements, and hardware sends whole blocks",
            help=f"pad the axis to {-(-length // size) * size}, or choose a block size that divides {length}",
        )
    return (*shape[:-1], length // size, size)


def block_input(builder: Builder, name: str, shape: Shape, format: Block) -> BlockValue:
    """A port in a block format: one stream of elements, and one of scales."""
    if len(format.sizes) > 1:
        raise error(
            "GW0381",
            f"input {name}: {format} has blocks over {len(format.sizes)} axes",
            help="use blocks along one axis for activations; two-dimensional blocks are for weights",
        )
    split = block_shape(format, shape, f"input {name}")
    elements = builder.input(name, Type(split, format.element, interval_of_codes(format.element)))
    scale_type = Type((*split[:-1], 1), format.scale, interval_of_codes(format.scale))
    return BlockValue(elements, builder.input(f"{name}_scale", scale_type), format, shape)


def block_constant(builder: Builder, real: IntegerArray, spec: CastSpec, name: str) -> BlockValue:
    """A constant rounded into a block format; tiles over two axes repeat their scale along the rows."""
    format = spec.format
    assert isinstance(format, Block)
    split = block_shape(format, real.shape, name)
    codes, scales = format.encode(real, None, spec.rounding, spec.overflow)
    for axis, size in zip(range(-len(format.sizes), -1), format.sizes[:-1], strict=True):
        scales = np.repeat(scales, size, axis=axis).take(range(real.shape[axis]), axis=axis)
    elements = builder.integers(codes.reshape(split), format.element, name)
    return BlockValue(
        elements, builder.integers(scales[..., np.newaxis], format.scale, f"{name}_scale"), format, real.shape
    )


# ---- products --------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Scale:
    """A scale as mantissa x 2^exponent x 2^lowest, inside an expression."""

    mantissa: Term
    exponent: Term
    lowest: int


def block_linear(
    builder: Builder, value: Value | BlockValue, weight: Value | BlockValue, accumulator: CastSpec
) -> Value:
    """``value @ weight.T`` where at least one side is in a block format; weight [out, in] is constant."""
    blocks, size = _common_blocks(value, weight)
    left = _split(builder, value, blocks, size)
    right = _split(builder, weight, blocks, size)
    rows = [f"r{axis}" for axis in range(len(left.shape) - 2)]
    lead = " ".join(rows)
    dots = builder.contract(f"{lead} b k, n b k -> {lead} b n".strip(), left, right)
    scales = [each.scales for each in (value, weight) if isinstance(each, BlockValue)]
    if isinstance(weight, BlockValue):
        scales[-1] = _transposed(builder, weight.scales)

    def windowed(dot: Term, *codes: Term) -> Term:
        parts = [_scale(code, each.format) for code, each in zip(codes, scales, strict=True)]
        return window_term(dot, lowest_exponent(dots.format), parts, accumulator)

    sums = builder.map(windowed, dots, *scales, format=accumulator.format)
    if blocks > 1:
        sums = builder.add(Reduce("sum", (len(rows),)), sums)
    return builder.reshape(sums, (*left.shape[:-2], right.shape[0]))


def _common_blocks(value: Value | BlockValue, weight: Value | BlockValue) -> tuple[int, int]:
    sizes = [each.format.sizes[-1] for each in (value, weight) if isinstance(each, BlockValue)]
    if len(set(sizes)) > 1:
        raise error(
            "GW0382",
            f"linear: blocks of {sizes[0]} and of {sizes[1]} meet in one product",
            note="both sides of a product must change their scale at the same elements",
            help="choose one block size for input and weight",
        )
    length = value.shape[-1] if value.shape else 1
    return length // sizes[0], sizes[0]


def _split(builder: Builder, value: Value | BlockValue, blocks: int, size: int) -> Value:
    if isinstance(value, BlockValue):
        return value.elements
    codes = builder.constant_of(value)
    shape = (*value.shape[:-1], blocks, size)
    if codes is None:
        return builder.reshape(value, shape)
    return builder.integers(codes.reshape(shape), value.format, value.name)


def _transposed(builder: Builder, scales: Value) -> Value:
    """Scales of a weight [out, blocks, 1] as [blocks, out]."""
    codes = builder.constant_of(scales)
    assert codes is not None
    return builder.integers(codes[..., 0].T, scales.format, scales.name)


def _scale(code: Term, format: Format) -> _Scale:
    parts = digits(code, format)
    zero = code.builder.constant(0)
    return _Scale(parts.mantissa, parts.exponent if parts.exponent is not None else zero, parts.lowest)


def window_term(dot: Term, lowest: int, scales: list[_Scale], accumulator: CastSpec) -> Term:
    """``dot`` x 2^lowest times the scales, rounded into the accumulator window.

    Shifts beyond the window on either side give the same result as the last one inside, to which the
    exponent is limited.
    """
    window = accumulator.format
    assert isinstance(window, Fixed)
    value, exponent = dot, dot.builder.constant(0)
    for scale in scales:
        is_flag = Interval(0, 1).contains(scale.mantissa.interval)
        value = scale.mantissa.select(value, 0) if is_flag else value * scale.mantissa
        lowest += scale.lowest
        if scale.exponent.interval.is_constant:
            lowest += scale.exponent.interval.low
        else:
            exponent = exponent + scale.exponent
    # value x 2^shift counts in steps of the window.
    shift = exponent + (lowest + window.fraction_bits)
    bits = value.interval.width
    smallest = max(shift.interval.low, -(bits + 1))
    largest = max(min(shift.interval.high, window.width), smallest)
    amount = shift.clamp(smallest, largest) - smallest
    rounded = (value << amount).round(-smallest, accumulator.rounding)
    low, high = window.code_interval()
    return overflow_term(rounded, Interval(low, high), accumulator.overflow, window.width, window.signed)


# ---- quantising in a stream ------------------------------------------------------------------
def quantise_blocks(builder: Builder, value: Value, spec: CastSpec) -> BlockValue:
    """``value``, exact or fixed-point, rounded into a block format: the scale from each block's largest magnitude."""
    format = spec.format
    assert isinstance(format, Block)
    split = block_shape(format, value.shape, value.name)
    blocks = builder.reshape(builder.decoded(value), split)
    frac, width = blocks.frac, blocks.interval.magnitude.bit_length()
    if not isinstance(format.scale, PowerOfTwo):
        check_division(format, spec, value.name)
        return _quantise_by_division(builder, blocks, spec, value.shape)
    by_magnitude = isinstance(format.element, SignificandFormat)
    if by_magnitude and blocks.interval.signed:
        blocks = builder.map(_sign_and_magnitude, blocks, frac=frac)
    magnitudes = blocks if by_magnitude else builder.map(_absolute, blocks, frac=frac)
    together = builder.add(Reduce("or", (len(split) - 1,)), magnitudes)
    alignment = _alignment(width, frac, format, value.name)

    def shift(term: Term) -> Term:
        return alignment.shift(term.wrap(width, False))

    def scale(term: Term) -> Term:
        magnitude = term.wrap(width, False)
        return (magnitude > 0).select(alignment.highest - alignment.shift(magnitude), 0)

    def element(term: Term, amount: Term) -> Term:
        return alignment.element(term, amount, spec)

    amounts = builder.map(shift, together)
    scales = builder.map(scale, together, format=format.scale)
    return BlockValue(builder.map(element, blocks, amounts, format=format.element), scales, format, value.shape)


def _quantise_by_division(builder: Builder, blocks: Value, spec: CastSpec, shape: Shape) -> BlockValue:
    """Blocks whose scale is a number like any other: the largest magnitude itself is needed."""
    format = spec.format
    assert isinstance(format, Block)
    frac = blocks.frac
    magnitudes = builder.map(_absolute, blocks, frac=frac)
    largest = builder.add(Reduce("max", (len(blocks.shape) - 1,)), magnitudes)

    def scale(term: Term) -> Term:
        return scale_term(term, frac, format)

    def element(term: Term, code: Term) -> Term:
        parts = digits(code, format.scale)
        return element_term(term.absolute(), term < 0, frac, parts.integer, parts.lowest, spec)

    scales = builder.map(scale, largest, format=format.scale)
    return BlockValue(builder.map(element, blocks, scales, format=format.element), scales, format, shape)


def _absolute(term: Term) -> Term:
    return term.absolute()


def _sign_and_magnitude(term: Term) -> Term:
    """The magnitude, with the sign in the bit above it."""
    magnitude = term.absolute()
    return magnitude | ((term < 0) << magnitude.interval.width)


@dataclass(frozen=True, slots=True)
class _Alignment:
    """Elements of ``width`` bits of magnitude shifted left until the leading one of their block stands at the top.

    A shift is at most ``most``, as far down as the scale format reaches; the scale's code is ``highest`` - shift.
    """

    width: int
    highest: int
    most: int
    format: Block

    def shift(self, magnitude: Term) -> Term:
        """The shift for the bitwise or of a block's magnitudes."""
        return magnitude.leading_zeros(self.width).minimum(self.most)

    def element(self, term: Term, amount: Term, spec: CastSpec) -> Term:
        """The element's code; floating-point elements come as sign and magnitude."""
        element = self.format.element
        cast = CastSpec(element, spec.rounding, spec.overflow)
        frac = self.width - 1 - element.largest_exponent
        if isinstance(element, SignificandFormat):
            magnitude = term.wrap(self.width, False)
            return significand_code_of(magnitude, term >> self.width, frac, element, cast, amount)
        if term.interval.signed:
            return cast_term((term << amount).wrap(self.width + 1, True), Exact(frac), cast)
        return cast_term(term.shift_left_within(amount, self.width), Exact(frac), cast)


def _alignment(width: int, frac: int, format: Block, name: str) -> _Alignment:
    assert isinstance(format.scale, PowerOfTwo)
    highest = width - 1 - frac - format.element.largest_exponent + format.scale.exponent_bias
    largest = format.scale.layout.largest
    if not 0 <= highest <= largest:
        raise error(
            "GW0384",
            f"{name}: its values lie outside the reach of {format.scale}",
            note=f"the largest magnitude needs the scale code {highest}, codes run from 0 to {largest}",
            help="use a scale format with more exponent bits",
        )
    return _Alignment(width, highest, min(width - 1, highest), format)


# ---- the graph's nodes -----------------------------------------------------------------------
Grouped = Value | BlockValue | ScaledWeights
"""An operand at the integer level: one value, or several that stand for one tensor."""


def legalise_blocks(builder: Builder, node: Node, operands: list[Grouped]) -> Grouped | None:
    """The integer form of a node that makes or reads a value in a block format; None for any other node."""
    op = node.op
    first = operands[0] if operands else None
    if isinstance(op, Cast) and isinstance(op.spec.format, Block | ScaledSigns):
        return _cast(builder, node, op.spec, first)
    if all(isinstance(each, Value) for each in operands):
        return None
    if isinstance(op, Linear) and isinstance(first, Value) and isinstance(operands[1], ScaledWeights):
        product = scaled_linear(builder, first, operands[1])
        return op.with_bias(builder, product, *(each for each in operands[2:] if isinstance(each, Value)))
    if not isinstance(op, Linear) or op.accumulator is None or _unfit(operands[:2]):
        raise error(
            "GW0386",
            f"{op.name} reads an operand in a block format",
            location=node.location,
            note="block formats are for the operands of matrix products",
            help="cast it to a scalar format, or move the cast directly before the product",
        )
    left, right = (each for each in operands[:2] if not isinstance(each, ScaledWeights))
    total = block_linear(builder, left, right, op.accumulator)
    return op.with_bias(builder, total, *(each for each in operands[2:] if isinstance(each, Value)))


def _unfit(operands: list[Grouped]) -> bool:
    """Whether an operand cannot take part in a product of blocks."""
    return any(isinstance(each, ScaledWeights) for each in operands)


def _cast(builder: Builder, node: Node, spec: CastSpec, value: Grouped | None) -> Grouped:
    if isinstance(value, BlockValue | ScaledWeights):
        if value.format == spec.format:
            return value
        raise error("GW0387", f"a cast from {value.format} to {spec.format} has no hardware", location=node.location)
    assert value is not None
    if not value.type.is_real and isinstance(spec.format, Block):
        return quantise_blocks(builder, value, spec)
    reals = builder.constant_of(value)
    if reals is None:
        raise error(
            "GW0331",
            f"cast to {spec.format} has an operand without a number format",
            location=node.location,
            help="cast the operand to a scalar format first",
        )
    source = getattr(getattr(builder.producer(value), "op", None), "source", "")
    if isinstance(spec.format, ScaledSigns):
        return scaled_weights(builder, reals, spec, source or node.output.name)
    return block_constant(builder, reals, spec, source or node.output.name)
