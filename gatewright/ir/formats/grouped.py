"""What block formats and scaled formats share: groups of elements with one scale (or a few) in common."""

from __future__ import annotations

import abc

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.formats.base import Format, ScalarFormat
from gatewright.ir.formats.rounding import Integers, Overflow, Reals, Rounding, required
from gatewright.ir.formats.signs import Binary, Ternary

Axes = int | tuple[int, ...]


class GroupFormat(Format):
    """A format whose elements share scales: value = element x scale, with one scale per group.

    `encode` gives the element codes in the shape of the input, and the scale codes; `decode` needs both.
    """

    __slots__ = ()

    element: ScalarFormat
    scale: ScalarFormat

    @abc.abstractmethod
    def encode(
        self,
        real: object,
        axis: Axes | None = None,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow | None = None,
        generator: np.random.Generator | None = None,
    ) -> tuple[Integers, Integers]:
        """Element codes and scale codes of the float64 array `real`. `overflow` None is the format's own."""

    @abc.abstractmethod
    def decode(self, codes: object, scales: object, axis: Axes | None = None) -> Reals:
        """Values in float64; NaN where the scale is NaN."""

    def quantize(
        self,
        real: object,
        axis: Axes | None = None,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow | None = None,
        generator: np.random.Generator | None = None,
    ) -> Reals:
        """The values that `encode` followed by `decode` gives."""
        codes, scales = self.encode(real, axis, rounding, overflow, generator)
        return self.decode(codes, scales, axis)


def check_scale(form: GroupFormat) -> None:
    """GW0212 unless the scale format of `form` has magnitudes of several sizes."""
    scale = form.scale
    if isinstance(scale, Binary | Ternary):
        raise error(
            "GW0212",
            f"{form}: {scale} cannot be a scale",
            note=f"a scale multiplies the numbers that share it, and {scale} has one magnitude alone",
            help="use a power of two (e8m0, e5m0), a float (e4m3, bfloat16, float32), log<5>, or fixed point "
            "(ufixed<8,4>)",
        )


def normal_axes(axis: Axes | None, count: int, dimensions: int, name: str) -> tuple[int, ...]:
    """`axis` as `count` axes from 0; None means the last ones. GW0211 if they do not exist or repeat."""
    given = tuple(range(-count, 0)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    axes = tuple(one + dimensions if one < 0 else one for one in given)
    if len(axes) != count or len(set(axes)) != count or any(not 0 <= one < dimensions for one in axes):
        raise error(
            "GW0211",
            f"{name} cannot be laid along axis {axis} of a tensor with {dimensions} dimensions",
            note=f"it needs {count} different axes from {-dimensions} to {dimensions - 1}",
            help=f"pass {count} of the tensor's axes",
        )
    return axes


def divide_to_odd(dividend: Reals, divisor: Reals) -> Reals:
    """dividend / divisor in float64 rounded to odd: a later rounding to at most 36 bits is as if exact.

    Finite operands; the divisor's significand has at most 24 bits and is not zero. (Boldo and Melquiond,
    "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008.)
    """
    top_fractions, top_exponents = np.frexp(np.abs(dividend))
    low_fractions, low_exponents = np.frexp(np.abs(divisor))
    top = np.ldexp(top_fractions, 53).astype(np.int64) << 9
    low = np.ldexp(low_fractions, 24).astype(np.int64)
    quotient = top // low  # 38 to 63 bits
    inexact = quotient * low != top
    # Leave 52 bits and keep what is cut off in the last one.
    excess = np.maximum(np.frexp(quotient.astype(np.float64))[1] - 52, 0).astype(np.int64)
    kept = quotient >> excess
    inexact |= (kept << excess) != quotient
    kept |= inexact
    exponents = top_exponents - low_exponents + (24 - 62) + excess
    result = np.ldexp(kept.astype(np.float64), exponents.astype(np.int32))
    return np.where(np.signbit(dividend) ^ np.signbit(divisor), -result, result)


def check_generator(rounding: Rounding, generator: np.random.Generator | None) -> None:
    """Raise GW0204 early if stochastic rounding lacks its generator."""
    if rounding is Rounding.STOCHASTIC:
        required(generator)
