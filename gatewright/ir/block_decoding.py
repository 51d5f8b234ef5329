"""Values in block formats as numbers again: a constant exactly, a stream through an accumulator window.

A constant is an integer times a power of two for each element, so that it folds to an exact constant. A stream's scales
reach over hundreds of bits: its elements are shifted by them into a fixed-point window, as those of a product are.
"""

from __future__ import annotations

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.block_products import scale_of, window_term
from gatewright.ir.block_values import BlockValue, moved_last
from gatewright.ir.builder import Builder
from gatewright.ir.decoding import decoded_integers, digits, lowest_exponent
from gatewright.ir.expressions import Term
from gatewright.ir.formats import CastSpec, Exact, Fixed
from gatewright.ir.intervals import IntegerArray, Interval, fits_int64
from gatewright.ir.scaled_weights import ScaledWeights
from gatewright.ir.types import Value


def decoded_constant(builder: Builder, value: BlockValue | ScaledWeights) -> Value | None:
    """The exact numbers of a constant in blocks or in a scaled format; None where ``value`` is a stream."""
    if isinstance(value, ScaledWeights):
        return _decoded_signs(builder, value)
    codes, scales = builder.constant_of(value.elements), builder.constant_of(value.scales)
    if codes is None or scales is None:
        return None
    format = value.format
    integers = decoded_integers(format.element, codes).astype(object)
    integers = integers * decoded_integers(format.scale, scales).astype(object)
    shape = moved_last(value.shape, value.axis)
    integers = np.moveaxis(integers.reshape(*shape[:-1], -1)[..., : shape[-1]], -1, value.axis)
    exponent = lowest_exponent(format.element) + lowest_exponent(format.scale)
    return _exact(builder, integers, exponent, value.elements.name)


def _decoded_signs(builder: Builder, value: ScaledWeights) -> Value | None:
    codes, scales = builder.constant_of(value.signs), builder.constant_of(value.scales)
    assert codes is not None and scales is not None
    levels = value.format.levels
    signs = decoded_integers(value.format.element, codes).astype(object).reshape(-1, levels, *codes.shape[1:])
    factors = scales.reshape(-1, levels, *(1,) * (codes.ndim - 1))
    return _exact(builder, (signs * factors).sum(axis=1), -value.scales.frac, value.signs.name)


def _exact(builder: Builder, integers: IntegerArray, exponent: int, name: str) -> Value:
    """The constant integers x 2^exponent; zeros that all integers end with belong to the exponent."""
    common = int(np.bitwise_or.reduce(integers, axis=None)) if integers.size else 0
    spare = max((common & -common).bit_length() - 1, 0)
    integers, exponent = integers >> spare, exponent + spare if common else 0
    narrow = integers.astype(np.int64) if integers.size == 0 or fits_int64(Interval.of(integers)) else integers
    return builder.integers(narrow, Exact(-exponent), name)


def windowed(builder: Builder, value: BlockValue, spec: CastSpec) -> Value:
    """``value`` rounded into the fixed-point format of ``spec``; GW0387 for another format."""
    window = spec.format
    if not isinstance(window, Fixed) or window.frac is None:
        raise error(
            "GW0387",
            f"a cast from {value.format} to {window} has no hardware",
            note="the numbers of a block are shifted by its scale into a fixed-point window, and nothing else",
            help='cast it to a fixed-point format with all its bits given, such as "fixed<24,15>"',
        )
    numbers = decoded_constant(builder, value)
    if numbers is not None:
        codes = builder.constant_of(numbers)
        return builder.integers(
            window.encode_scaled(codes, -numbers.frac, spec.rounding, spec.overflow), window, numbers.name
        )
    element, scale = value.format.element, value.format.scale

    def rounded(code: Term, factor: Term) -> Term:
        return window_term(digits(code, element).integer, lowest_exponent(element), [scale_of(factor, scale)], spec)

    numbers = builder.map(rounded, value.elements, value.scales, format=window)
    shape = moved_last(value.shape, value.axis)
    numbers = builder.reshape(numbers, shape)
    if value.axis == -1:
        return numbers
    from gatewright.ir.ops.permute import Permute

    rank = len(shape)
    position = rank + value.axis
    return builder.add(Permute((*range(position), rank - 1, *range(position, rank - 1))), numbers)
