"""Products of block formats: operators that make them, and what they become on integers.

A product of block formats is, block by block, an exact dot product of elements, then a shift by the
scales into a fixed-point window by one visible cast, then an exact sum (OCP Microscaling Formats 1.0,
section 6.2, leaves the accumulation to the implementation; here it is part of the operator).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gatewright.diagnostics import GatewrightError, error
from gatewright.ir.accumulation import Accumulation
from gatewright.ir.block_values import BlockValue, partial_blocks, with_axis_last
from gatewright.ir.builder import Builder
from gatewright.ir.casts import overflow_term
from gatewright.ir.decoding import digits, lowest_exponent
from gatewright.ir.expressions import Term
from gatewright.ir.formats import CastSpec, Fixed, Format
from gatewright.ir.intervals import Interval
from gatewright.ir.operator import Operator
from gatewright.ir.scaled_weights import ScaledWeights
from gatewright.ir.types import Shape, Value

Grouped = Value | BlockValue | ScaledWeights
"""An operand at the integer level: one value, or several that stand for one tensor."""


class BlockOperator(Operator, abc.ABC):
    """A product of its first two operands, one or both of which may be in a block format.

    Blocks lie along the axis that is summed; ``accumulation`` is set where there are any.
    """

    __slots__ = ()

    accumulation: Accumulation | None

    @abc.abstractmethod
    def terms(self, *shapes: Shape) -> int:
        """How many elements are summed into one result, for operands of these shapes."""

    @abc.abstractmethod
    def block_product(self, builder: Builder, left: Value | BlockValue, right: Value | BlockValue) -> Value:
        """The product on integers, without what else the operator adds."""

    @abc.abstractmethod
    def decompose_grouped(self, builder: Builder, *operands: Grouped) -> Value:
        """``decompose`` where an operand is in a block format or a scaled one."""

    def takes_blocks(self, operand: int) -> bool:
        return True

    def product_of_blocks(self, builder: Builder, operands: Sequence[Grouped]) -> Value:
        """:meth:`block_product` of the first two operands; refused where they cannot meet."""
        left, right = operands[:2]
        if self.accumulation is None:
            raise self._refused_scaled(builder, left if isinstance(left, ScaledWeights) else right)
        if isinstance(left, ScaledWeights) or isinstance(right, ScaledWeights):
            raise refused_blocks(self, "a scaled format and a block format do not meet in one product")
        return self.block_product(builder, left, right)

    def _refused_scaled(self, builder: Builder, weight: Grouped) -> GatewrightError:
        """The error GW0386 of a constant in a scaled format that is not the matrix of a layer."""
        assert isinstance(weight, ScaledWeights)
        return refused_blocks(
            self,
            "sums of signs are multiplied by their scale behind a linear layer or a convolution alone, which is what "
            "`x @ constant` with a matrix becomes; a constant on the left, or with more than two axes, does not",
            f"its operand {weight.signs.name} in the scaled format {weight.format}",
            f'write [name."{builder.place}"] weight = "fixed<8,4>", or the product with the matrix on the right, '
            "(x.transpose(-1, -2) @ constant.T).transpose(-1, -2)",
        )

    def with_bias(self, builder: Builder, total: Value, *bias: Value) -> Value:
        """The product plus the bias, where there is one."""
        if not bias:
            return total
        offset = builder.decoded(bias[0])
        (shift_total, shift_bias), frac = builder.align(total, offset)

        def add_bias(total: Term, bias: Term) -> Term:
            return shift_total(total) + shift_bias(bias)

        return builder.map(add_bias, total, offset, frac=frac)

    @property
    def accumulate(self) -> Accumulation:
        """The accumulation of a product of blocks."""
        assert self.accumulation is not None
        return self.accumulation


def refused_blocks(op: Operator, note: str, operand: str = "an operand in a block format", help: str = ""):
    """The error GW0386 of an operator with an operand in a block format or a scaled one."""
    return error(
        "GW0386",
        f"{op.name} reads {operand}",
        note=note,
        help=help or "cast it to a scalar format, or move the cast directly before the product",
    )


@dataclass(frozen=True, slots=True)
class Factor:
    """One side of a product of blocks: codes whose axes have ``names``, and scales that lack the last of them.

    The last two names are those of the blocks and of the elements in a block. Without scales they are all 1.
    """

    names: tuple[str, ...]
    elements: Value
    scales: Value | None

    def renamed(self, builder: Builder, names: str, shape: Shape) -> Factor:
        """The same side with its axes split as ``shape`` says, under new names; the last axis stays."""
        elements = _reshaped(builder, self.elements, shape)
        scales = None if self.scales is None else _reshaped(builder, self.scales, shape[:-1])
        return Factor(tuple(names.split()), elements, scales)


def factor(builder: Builder, names: str, value: Value | BlockValue, size: int, axis: int = -1) -> Factor:
    """An operand whose axes, ``axis`` (from the end) moved behind the others, have these names.

    A value in a scalar format is cut into blocks of ``size`` as well. Raises GW0382 for blocks of another size.
    """
    listed = tuple(names.split())
    if isinstance(value, BlockValue):
        if value.format.sizes[-1] != size:
            raise error(
                "GW0382",
                f"blocks of {value.format.sizes[-1]} and of {size} meet in one product",
                note="both sides of a product must change their scale at the same elements",
                help="choose one block size for input and weight",
            )
        if value.axis != axis:
            raise error(
                "GW0386",
                f"{value.format} has its blocks along axis {value.axis}, the product sums along axis {axis}",
                note=f"the operand is {list(value.shape)}; elements of one block must be added with one another",
                help=f"cast it with axis={axis}, directly before the product",
            )
        if value.shape[axis] % size:
            raise partial_blocks(value.format, value.elements.name, value.shape[axis])
        return Factor(listed, value.elements, _reshaped(builder, value.scales, value.scales.shape[:-1]))
    length = value.shape[axis]
    if length % size:
        dividing = max(each for each in range(1, size + 1) if length % each == 0)
        raise error(
            "GW0380",
            f"blocks of {size} do not fill the {length} elements of {value.name} that one result sums",
            note="both sides of a product are cut at the same elements, and hardware sends whole blocks",
            help=f"choose a block size that divides {length}, such as {dividing}, or a scalar format for both sides",
        )
    moved = with_axis_last(builder, value, axis)
    blocks = (*moved.shape[:-1], moved.shape[-1] // size, size)
    return Factor(listed, _reshaped(builder, moved, blocks), None)


def sum_of_blocks(builder: Builder, left: Factor, right: Factor, summed: str, accumulator: CastSpec) -> Value:
    """The product of two sides, each block's rounded by ``accumulator``, summed over the ``summed`` names too.

    The result has the left side's names that are kept, then those that only the right side has. The left
    side streams.
    """
    kept = left.names[:-1]
    result = (*kept, *(name for name in right.names if name not in left.names))
    equation = f"{' '.join(left.names)}, {' '.join(right.names)} -> {' '.join(result)}"
    dots = builder.contract(equation, left.elements, right.elements)
    scaled = [side for side in (left, right) if side.scales is not None]
    scales = [_aligned(builder, side, result) for side in scaled]
    formats = [scale.format for scale in scales]

    def windowed(dot: Term, *codes: Term) -> Term:
        parts = [scale_of(code, format) for code, format in zip(codes, formats, strict=True)]
        return window_term(dot, lowest_exponent(dots.format), parts, accumulator)

    total = builder.map(windowed, dots, *scales, format=accumulator.format)
    from gatewright.ir.ops.reduce import Reduce

    axes = tuple(axis for axis, name in enumerate(result) if name in summed.split())
    if any(total.shape[axis] > 1 for axis in axes):
        total = builder.add(Reduce("sum", axes), total)
    return builder.reshape(total, tuple(size for axis, size in enumerate(total.shape) if axis not in axes))


def _aligned(builder: Builder, side: Factor, result: tuple[str, ...]) -> Value:
    """A side's scales with their axes where the result has them; an axis that they lack has extent 1."""
    assert side.scales is not None
    names = side.names[:-1]
    order = tuple(names.index(name) for name in result if name in names)
    sizes = dict(zip(names, side.scales.shape, strict=True))
    shape = tuple(sizes.get(name, 1) for name in result)
    codes = builder.constant_of(side.scales)
    if codes is not None:
        return builder.integers(codes.transpose(order).reshape(shape), side.scales.format, side.scales.name)
    from gatewright.ir.ops.permute import Permute

    scales = side.scales
    if order != tuple(range(len(order))):
        scales = builder.add(Permute(order), scales)
    return builder.reshape(scales, shape)


def _reshaped(builder: Builder, value: Value, shape: Shape) -> Value:
    """A value under another shape; a constant stays one."""
    codes = builder.constant_of(value)
    if codes is None:
        return builder.reshape(value, shape)
    return builder.integers(np.reshape(codes, shape), value.format, value.name)


# ---- the accumulator window ------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Scale:
    """A scale as mantissa x 2^exponent x 2^lowest, inside an expression."""

    mantissa: Term
    exponent: Term
    lowest: int


def scale_of(code: Term, format: Format) -> Scale:
    """A scale's code taken apart."""
    parts = digits(code, format)
    zero = code.builder.constant(0)
    return Scale(parts.mantissa, parts.exponent if parts.exponent is not None else zero, parts.lowest)


def window_term(dot: Term, lowest: int, scales: list[Scale], accumulator: CastSpec) -> Term:
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
