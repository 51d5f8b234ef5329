"""Rounding and overflow: the only two ways in which a cast loses information.

Both work on exact integers, held in int64 arrays while every intermediate value fits and in object arrays
of Python integers otherwise, so the results are right at any width.

Source: the quantisation and overflow modes of IEEE 1666 (SystemC) section 7.10.9, as used by ap_fixed.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewright.diagnostics import GatewrightError, error

Integers = npt.NDArray[Any]
"""An array of int64, or of Python integers (dtype object) where int64 would overflow."""

Reals = npt.NDArray[np.float64]


class Rounding(enum.StrEnum):
    """How a value between two neighbours of a format's grid is replaced by one of them."""

    FLOOR = "floor"  # AP TRN
    HALF_UP = "half_up"  # AP RND
    HALF_EVEN = "half_even"  # AP RND_CONV
    TOWARD_ZERO = "toward_zero"  # AP TRN_ZERO
    HALF_ZERO = "half_zero"  # AP RND_ZERO
    HALF_DOWN = "half_down"  # AP RND_MIN_INF
    HALF_AWAY = "half_away"  # AP RND_INF
    STOCHASTIC = "stochastic"  # up with the probability of the fraction; software only, needs a generator


class Overflow(enum.StrEnum):
    """What happens, after rounding, to a value outside the format's range."""

    SATURATE = "saturate"  # AP SAT
    SATURATE_SYMMETRIC = "saturate_symmetric"  # AP SAT_SYM
    SATURATE_ZERO = "saturate_zero"  # AP SAT_ZERO
    WRAP = "wrap"  # AP WRAP
    INFINITE = "infinite"  # IEEE 754: infinity where the format has one, else NaN; floating point only


DETERMINISTIC_ROUNDINGS = tuple(mode for mode in Rounding if mode is not Rounding.STOCHASTIC)

_INT64_BITS = 63


def as_integers(values: object) -> Integers:
    """`values` as an int64 array where they fit, else as an object array of Python integers."""
    array: Integers = np.asarray(values)
    if array.dtype == np.int64:
        return array
    if array.dtype == object or array.dtype == np.uint64:
        return narrowed(array.astype(object))
    return array.astype(np.int64)


def narrowed(array: Integers) -> Integers:
    """An object array of integers as int64 if every element fits, else unchanged."""
    if array.dtype != object:
        return array
    if array.size == 0 or bit_length(array) <= _INT64_BITS:
        return array.astype(np.int64)
    return array


def bit_length(array: Integers) -> int:
    """Bits of the largest magnitude in `array`, 0 for an empty array. -2^63 counts as 64."""
    if array.size == 0:
        return 0
    return max(int(array.max()).bit_length(), int(array.min()).bit_length())


def round_scaled(
    integers: object,
    shift: int,
    rounding: Rounding,
    generator: np.random.Generator | None = None,
) -> Integers:
    """`integers` / 2^shift, rounded to integers; exact at any width. A negative shift multiplies.

    `generator` supplies the random bits of `Rounding.STOCHASTIC` and is unused otherwise.
    """
    given = as_integers(integers)
    values: Integers = given.reshape(-1)  # numpy turns a result without dimensions into a scalar
    if shift <= 0:
        if values.dtype != object and bit_length(values) - shift > _INT64_BITS:
            values = values.astype(object)
        return narrowed(values << -shift).reshape(given.shape)
    if shift > _INT64_BITS - 1 and values.dtype != object:
        values = values.astype(object)
    floor: Integers = values >> shift
    remainder: Integers = values & ((1 << shift) - 1)
    rounded = narrowed(floor + _round_up(floor, remainder, shift, rounding, generator))
    return rounded.reshape(given.shape)


def _round_up(
    floor: Integers,
    remainder: Integers,
    shift: int,
    rounding: Rounding,
    generator: np.random.Generator | None,
) -> Integers:
    """1 where floor + remainder / 2^shift rounds to floor + 1, else 0; `remainder` is in [0, 2^shift)."""
    half = 1 << (shift - 1)
    above: Integers = remainder > half
    tie: Integers = remainder == half
    negative: Integers = floor < 0
    match rounding:
        case Rounding.FLOOR:
            up = np.zeros_like(above)
        case Rounding.TOWARD_ZERO:
            up = negative & (remainder != 0)
        case Rounding.HALF_UP:
            up = above | tie
        case Rounding.HALF_DOWN:
            up = above
        case Rounding.HALF_EVEN:
            up = above | (tie & ((floor & 1) == 1))
        case Rounding.HALF_ZERO:
            up = above | (tie & negative)
        case Rounding.HALF_AWAY:
            up = above | (tie & ~negative)
        case Rounding.STOCHASTIC:
            up = _random_below(required(generator), shift, remainder)
    return up.astype(object) if floor.dtype == object else up.astype(np.int64)


def required(generator: np.random.Generator | None) -> np.random.Generator:
    """`generator`, or an error saying that stochastic rounding must be seeded (GW0204)."""
    if generator is None:
        raise error(
            "GW0204",
            "stochastic rounding needs a source of random numbers",
            note="without a seed the result could not be repeated",
            help="pass generator=numpy.random.default_rng(seed), or choose half_even",
        )
    return generator


def _random_below(generator: np.random.Generator, bits: int, remainder: Integers) -> Integers:
    """True with probability remainder / 2^bits, element by element."""
    size = int(remainder.size)
    words = (bits + 29) // 30
    draws = generator.integers(0, 1 << 30, size=(words, size))
    if words <= 2:
        drawn: Integers = draws[0] if words == 1 else (draws[0] << 30) | draws[1]
    else:
        drawn = draws[0].astype(object)
        for word in draws[1:]:
            drawn = (drawn << 30) | word.astype(object)
    return (drawn >> (30 * words - bits)).reshape(remainder.shape) < remainder


def round_magnitudes(
    magnitudes: Reals,
    negative: npt.NDArray[np.bool_],
    rounding: Rounding,
    generator: np.random.Generator | None = None,
) -> Reals:
    """Non-negative float64 `magnitudes` of numbers with the given signs, rounded to whole numbers; exact.

    Working on magnitudes keeps the fraction exact: the fraction of a float64 is always representable,
    while the distance of a small negative number to its floor is not.
    """
    whole = np.floor(magnitudes)
    # Infinity minus infinity is NaN, which compares false below, so infinities pass through unchanged.
    with np.errstate(invalid="ignore"):
        fraction = magnitudes - whole
        odd = np.fmod(whole, 2.0) == 1.0
    tie = fraction == 0.5
    above = fraction > 0.5
    match rounding:
        case Rounding.FLOOR:
            up = negative & (fraction > 0)
        case Rounding.TOWARD_ZERO:
            up = np.zeros_like(tie)
        case Rounding.HALF_UP:
            up = above | (tie & ~negative)
        case Rounding.HALF_DOWN:
            up = above | (tie & negative)
        case Rounding.HALF_EVEN:
            up = above | (tie & odd)
        case Rounding.HALF_ZERO:
            up = above
        case Rounding.HALF_AWAY:
            up = above | tie
        case Rounding.STOCHASTIC:
            up = required(generator).random(magnitudes.shape) < fraction
    return whole + up


def apply_overflow(integers: object, low: int, high: int, overflow: Overflow) -> Integers:
    """`integers` brought into the interval [low, high].

    saturate clamps; saturate_symmetric clamps to [max(low, -high), high]; saturate_zero replaces what lies
    outside by 0 (by the bound nearest to 0 if 0 itself is outside); wrap keeps the value modulo their count.
    Raises GW0205 for `infinite`, which only floating-point formats have.
    """
    values = as_integers(integers)
    match overflow:
        case Overflow.SATURATE:
            return _clamp(values, low, high)
        case Overflow.SATURATE_SYMMETRIC:
            return _clamp(values, max(low, -high), high)
        case Overflow.SATURATE_ZERO:
            zero = min(max(0, low), high)
            return _bounded(values, low, high, lambda wide: _replaced(wide, low, high, zero))
        case Overflow.WRAP:
            return _bounded(values, low, high, lambda wide: (wide - low) % (high - low + 1) + low)
        case Overflow.INFINITE:
            raise no_infinity(low, high)


def no_infinity(low: int, high: int) -> GatewrightError:
    """The error GW0205 of a cast to integers that is to overflow to infinity."""
    return error(
        "GW0205",
        "integers have no infinity to overflow to",
        note=f"the codes of this format run from {low} to {high}",
        help="use saturate, saturate_symmetric, saturate_zero or wrap",
    )


def _replaced(values: Integers, low: int, high: int, zero: int) -> Integers:
    result = values.copy()
    result[(values < low) | (values > high)] = zero
    return result


def _clamp(values: Integers, low: int, high: int) -> Integers:
    return _bounded(values, low, high, lambda wide: np.minimum(np.maximum(wide, low), high))


def _bounded(values: Integers, low: int, high: int, operation: Callable[[Integers], Integers]) -> Integers:
    """`operation(values)`, in Python integers unless values and bounds leave room in int64."""
    spare = _INT64_BITS - 2
    flat: Integers = values.reshape(-1)
    if flat.dtype != object and max(low.bit_length(), high.bit_length(), bit_length(flat)) <= spare:
        return operation(flat).reshape(values.shape)
    return narrowed(operation(flat.astype(object))).reshape(values.shape)
