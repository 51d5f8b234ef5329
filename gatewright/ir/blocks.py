"""Values in block formats made at the integer level: ports, constants, and a quantiser in a stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import prod

from gatewright.diagnostics import error
from gatewright.ir.block_decoding import decoded_constant, windowed
from gatewright.ir.block_division import check_division, element_term, scale_term
from gatewright.ir.block_products import BlockOperator, Grouped, refused_blocks
from gatewright.ir.block_values import BlockValue, block_shape, check_axis, encoded_blocks, with_axis_last
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.casts import cast_term
from gatewright.ir.decoding import digits
from gatewright.ir.encoding import significand_code_of
from gatewright.ir.expressions import Term
from gatewright.ir.float_blocks import has_float_path, quantise_floats
from gatewright.ir.formats import Block, CastSpec, Exact, PowerOfTwo, ScalarFormat, ScaledSigns, SignificandFormat
from gatewright.ir.graph import Node
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.parameter_reshape import ParameterReshape
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.scaled_weights import ScaledWeights, scaled_weights
from gatewright.ir.types import Shape, Type, Value


def block_input(builder: Builder, name: str, shape: Shape, format: Block, axis: int = -1) -> BlockValue:
    """A port in a block format: one stream of elements, and one of scales."""
    if len(format.sizes) > 1:
        raise error(
            "GW0381",
            f"input {name}: {format} has blocks over {len(format.sizes)} axes",
            help="use blocks along one axis for activations; two-dimensional blocks are for weights",
        )
    split = block_shape(format, shape, f"input {name}", axis)
    elements = builder.input(name, Type(split, format.element, interval_of_codes(format.element)))
    scale_type = Type((*split[:-1], 1), format.scale, interval_of_codes(format.scale))
    return BlockValue(elements, builder.input(f"{name}_scale", scale_type), format, shape, axis)


def block_constant(builder: Builder, real: IntegerArray, spec: CastSpec, name: str, axis: int = -1) -> BlockValue:
    """A constant rounded into a block format; tiles over two axes repeat their scale along the rows.

    The last block may be partly filled: who multiplies with it refuses that, who only adds it does not mind.
    """
    format = spec.format
    assert isinstance(format, Block)
    check_axis(format, real.ndim, axis, name)
    codes, scales = encoded_blocks(real, spec, axis)
    elements = builder.integers(codes, format.element, name)
    return BlockValue(elements, builder.integers(scales, format.scale, f"{name}_scale"), format, real.shape, axis)


# ---- quantising in a stream ------------------------------------------------------------------
def quantise_blocks(builder: Builder, value: Value, spec: CastSpec, axis: int = -1) -> BlockValue:
    """``value``, codes of a scalar format, rounded into a block format: scales from the blocks' largest magnitudes."""
    format = spec.format
    assert isinstance(format, Block)
    if len(format.sizes) > 1:
        raise error(
            "GW0381",
            f"{value.name}: {format} has blocks over {len(format.sizes)} axes",
            help="use blocks along one axis for activations; two-dimensional blocks are for weights",
        )
    split = block_shape(format, value.shape, value.name, axis)
    codes = builder.reshape(with_axis_last(builder, value, axis), split)
    if has_float_path(value.format, format):
        return BlockValue(*quantise_floats(builder, codes, spec), format, value.shape, axis)
    if not isinstance(format.scale, PowerOfTwo):
        check_division(format, spec, value.name)
        return replace(_quantise_by_division(builder, codes, spec, value.shape), axis=axis)
    blocks = builder.decoded(codes)
    # A value that can only be zero has one bit too: shifts are counted from it.
    frac, width = blocks.frac, max(blocks.interval.magnitude.bit_length(), 1)
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
    elements = builder.map(element, blocks, amounts, format=format.element)
    return BlockValue(elements, scales, format, value.shape, axis)


def _quantise_by_division(builder: Builder, codes: Value, spec: CastSpec, shape: Shape) -> BlockValue:
    """Blocks whose scale is a number like any other: the largest magnitude itself is needed."""
    format, source = spec.format, codes.format
    assert isinstance(format, Block)
    blocks = builder.decoded(codes)
    frac, axes = blocks.frac, (len(blocks.shape) - 1,)
    found = [builder.add(Reduce("max", axes), builder.map(_absolute, blocks, frac=frac))]
    has_specials = False
    if isinstance(source, SignificandFormat) and source.has_nan and format.scale.has_nan:
        has_specials = True
        found.append(builder.add(Reduce("or", axes), builder.map(partial(_is_special, source), codes)))
    nan = format.scale.layout.nan if isinstance(format.scale, SignificandFormat) else None

    def scale(term: Term, *special: Term) -> Term:
        code = scale_term(term, frac, format)
        return special[0].select(nan, code) if special and nan is not None else code

    def element(term: Term, code: Term) -> Term:
        parts = digits(code, format.scale)
        found = element_term(term.absolute(), term < 0, frac, parts.integer, parts.lowest, spec)
        if not has_specials or nan is None:
            return found
        # The elements of a block that is NaN are zeros.
        return code.equals(nan).select((term < 0) << (format.element.width - 1), found)

    scales = builder.map(scale, *found, format=format.scale)
    return BlockValue(builder.map(element, blocks, scales, format=format.element), scales, format, shape)


def _is_special(format: SignificandFormat, code: Term) -> Term:
    """1 for NaN and infinity."""
    return code.wrap(format.layout.magnitude_bits, False) > format.layout.largest


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
def legalise_blocks(builder: Builder, node: Node, operands: list[Grouped]) -> Grouped | None:
    """The integer form of a node that makes or reads a value in a block format; None for any other node."""
    op = node.op
    first = operands[0] if operands else None
    if isinstance(op, Cast) and (isinstance(op.spec.format, Block | ScaledSigns) or isinstance(first, BlockValue)):
        return _cast(builder, node, op, first)
    if all(isinstance(each, Value) for each in operands):
        return None
    if isinstance(op, Reshape) and isinstance(first, BlockValue):
        return _reshaped(builder, op, first)
    if isinstance(op, ParameterReshape) and isinstance(first, BlockValue) and prod(first.shape) == 1:
        numbers = decoded_constant(builder, first)
        return None if numbers is None else builder.reshape(numbers, op.shape)
    last = [_addend(builder, op, node, index, each) for index, each in enumerate(operands) if index >= 2]
    if isinstance(op, BlockOperator) and any(not isinstance(each, Value) for each in operands[:2]):
        return op.decompose_grouped(builder, *operands[:2], *last)
    plain = [
        each if isinstance(each, Value) else _numbers(builder, op, node, index, each)
        for index, each in enumerate(operands[:2])
    ]
    return op.decompose(builder, *(each if op.takes_codes else builder.decoded(each) for each in [*plain, *last]))


def _addend(builder: Builder, op: Operator, node: Node, index: int, value: Grouped) -> Value:
    """A bias: a constant in blocks, or in a scaled format, is exact numbers."""
    found = value if isinstance(value, Value) else decoded_constant(builder, value)
    if found is not None:
        return found
    assert not isinstance(value, Value)
    return _refused(builder, op, node, index, value)


def _numbers(builder: Builder, op: Operator, node: Node, index: int, value: BlockValue | ScaledWeights) -> Value:
    """A factor, such as a slope: a constant in blocks is exact numbers."""
    found = decoded_constant(builder, value) if isinstance(value, BlockValue) else None
    return _refused(builder, op, node, index, value) if found is None else found


def _refused(builder: Builder, op: Operator, node: Node, index: int, value: BlockValue | ScaledWeights) -> Value:
    """GW0386 for an operand that the operator cannot read, with what to write instead."""
    role = op.roles[min(index, len(op.roles) - 1)]
    raise refused_blocks(
        op,
        "linear layers, convolutions and matrix products with a constant multiply blocks; a bias may be in blocks too",
        f"its operand {node.inputs[index].name} in the block format {value.format}"
        if isinstance(value, BlockValue)
        else f"its operand {node.inputs[index].name} in the scaled format {value.format}",
        f'write [name."{builder.place}"] {role} = "fixed<8,4>", or cast it to a scalar format in the model'
        if role
        else "",
    )


def _reshaped(builder: Builder, op: Reshape, value: BlockValue) -> BlockValue:
    """The same blocks under another shape, where both shapes are made of whole ones along their last axis."""
    size = value.format.sizes[-1]
    if value.axis != -1 or not op.shape or op.shape[-1] % size:
        raise refused_blocks(
            op,
            f"its operand {list(value.shape)} has blocks of {size} along axis {value.axis}, "
            f"which the shape {list(op.shape)} would cut apart",
        )
    split = (*op.shape[:-1], op.shape[-1] // size, size)
    scales = builder.reshape(value.scales, (*split[:-1], 1))
    return BlockValue(builder.reshape(value.elements, split), scales, value.format, op.shape)


def _cast(builder: Builder, node: Node, op: Cast, value: Grouped | None) -> Grouped:
    spec = op.spec
    if isinstance(value, BlockValue) and isinstance(spec.format, ScalarFormat):
        return windowed(builder, value, spec)
    if isinstance(value, BlockValue | ScaledWeights):
        if value.format == spec.format and getattr(value, "axis", op.axis) == op.axis:
            return value
        raise error(
            "GW0387",
            f"a cast from {value.format} to {spec.format} has no hardware",
            location=node.location,
            note="a value in a block format is not taken apart to be quantised again",
            help="cast the value once, directly before the product that reads it",
        )
    assert value is not None
    if not value.type.is_real and isinstance(spec.format, Block):
        return quantise_blocks(builder, value, spec, op.axis)
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
    return block_constant(builder, reals, spec, source or node.output.name, op.axis)
