"""Binary, ternary and residual-sign tensors with a scale per tensor or per channel, made from the data.

Sources: binary with the mean magnitude as scale: Rastegari et al., "XNOR-Net", 2016. Ternary with the
threshold 0.7 x mean magnitude: Li and Liu, "Ternary Weight Networks", 2016; with 0.05 x largest magnitude:
Zhu et al., "Trained Ternary Quantization", 2017. Sums of scaled signs: Ghasemzadeh et al., "ReBNet", 2018.

Every statistic is computed exactly, as a rational number, and rounded once into the scale format.
"""

from __future__ import annotations

import abc
import enum
import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.formats.base import Format, ScalarFormat, check_integer
from gatewright.ir.formats.floating import Float
from gatewright.ir.formats.grouped import Axes, GroupFormat, check_generator, check_scale
from gatewright.ir.formats.names import malformed, parse_format, register, register_pattern
from gatewright.ir.formats.rounding import Integers, Overflow, Reals, Rounding, as_integers, narrowed
from gatewright.ir.formats.signs import Binary, Ternary

_BFLOAT16 = Float(8, 7)


class Statistic(enum.StrEnum):
    """What a threshold or a scale is made from: magnitudes' mean or maximum."""

    MEAN = "mean"
    MAXIMUM = "max"


class Grouping(enum.StrEnum):
    """Which elements share a scale: all, or those with the same index on the channel axis (0 by default)."""

    TENSOR = "tensor"
    CHANNEL = "channel"


def common_integers(real: Reals) -> tuple[Integers, int]:
    """Finite float64 values as integers times one power of two, exactly."""
    fractions, exponents = np.frexp(real)
    used = exponents[fractions != 0]
    if used.size == 0:
        return np.zeros(real.shape, dtype=np.int64), 0
    mantissas = np.ldexp(fractions, 53).astype(np.int64)
    # Drop the zeros that all mantissas end with, so that int64 suffices for ordinary tensors.
    shifts = np.where(fractions != 0, exponents.astype(np.int64) - int(used.min()), 0)
    ones = int(np.bitwise_or.reduce(np.abs(mantissas), axis=None))
    spare = (ones & -ones).bit_length() - 1
    mantissas >>= spare
    if int(shifts.max()) + 53 - spare > 62:
        return mantissas.astype(object) << shifts.astype(object), int(used.min()) - 53 + spare
    return mantissas << shifts, int(used.min()) - 53 + spare


class ScaledSigns(GroupFormat):
    """What scaled binary, scaled ternary and residual signs share: grouping, and rows of exact integers."""

    __slots__ = ()

    per: Grouping
    scale: ScalarFormat

    def __post_init__(self) -> None:
        check_scale(self)

    @property
    def levels(self) -> int:
        """Scales of each group."""
        return 1

    @property
    def code_bits(self) -> int:
        """Bits of an element's code."""
        return self.element.width * self.levels

    def encode(
        self,
        real: object,
        axis: Axes | None = None,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow | None = None,
        generator: np.random.Generator | None = None,
    ) -> tuple[Integers, Integers]:
        """Element codes; scale codes of shape [groups, levels]. `axis` is the channel axis.

        The thresholds fix every element, so `rounding` only concerns the scales.
        """
        check_generator(rounding, generator)
        if rounding is Rounding.STOCHASTIC:
            raise error(
                "GW0214",
                f"{self} has no stochastic rounding",
                note="its thresholds decide every element, so there is nothing to round at random",
                help="use half_even",
            )
        values = np.asarray(real, dtype=np.float64)
        rows = self._rows(values, axis)
        codes = np.zeros(rows.shape, dtype=np.int64)
        scales = np.zeros((rows.shape[0], self.levels), dtype=np.int64)
        for index, row in enumerate(rows):
            codes[index], scales[index] = self._encode_row(row, rounding)
        return self._restored(codes, values.shape, axis), scales

    def decode(self, codes: object, scales: object, axis: Axes | None = None) -> Reals:
        given = as_integers(codes)
        rows = self._rows(given, axis)
        factors = self.scale.decode(scales)
        if factors.shape != (rows.shape[0], self.levels):
            raise error(
                "GW0213",
                f"{self}: scales of shape {factors.shape} do not fit elements of shape {given.shape}",
                note=f"there must be {rows.shape[0]} groups with {self.levels} scales each",
                help="pass the same axis to encode and decode",
            )
        total = np.zeros(rows.shape, dtype=np.float64)
        for level in range(self.levels):
            element = self.element.decode(rows >> (level * self.element.width))
            total += element * factors[:, level : level + 1]
        return self._restored(total, given.shape, axis)

    def _rows(self, values: Integers, axis: Axes | None) -> Integers:
        """One row per group."""
        if self.per is Grouping.TENSOR or values.ndim == 0:
            return values.reshape(1, values.size)
        moved = np.moveaxis(values, self._channel(axis, values.ndim), 0)
        return moved.reshape(moved.shape[0], math.prod(moved.shape[1:]))

    def _restored(self, rows: Integers, shape: tuple[int, ...], axis: Axes | None) -> Integers:
        if self.per is Grouping.TENSOR or not shape:
            return rows.reshape(shape)
        channel = self._channel(axis, len(shape))
        moved = (shape[channel], *shape[:channel], *shape[channel + 1 :])
        return np.moveaxis(rows.reshape(moved), 0, channel)

    def _channel(self, axis: Axes | None, dimensions: int) -> int:
        channel = 0 if axis is None else axis
        if not isinstance(channel, int) or not -dimensions <= channel < dimensions:
            raise error(
                "GW0211",
                f"{self}: axis {axis} is no channel axis of a tensor with {dimensions} dimensions",
                help=f"pass one axis from {-dimensions} to {dimensions - 1}",
            )
        return channel % dimensions

    def _encode_row(self, row: Reals, rounding: Rounding) -> tuple[Integers, Integers]:
        if not bool(np.isfinite(row).all()):
            if not self.scale.has_nan:
                raise error(
                    "GW0215",
                    f"{self}: the data holds NaN or infinity, and the scale has no NaN to say so",
                    help="remove them, or use bfloat16 as the scale",
                )
            nothing = self.element.encode(np.zeros(row.shape))
            return nothing, self.scale.encode(np.full(self.levels, np.nan))
        integers, exponent = common_integers(row)
        return self._encode_exact(integers, Fraction(2) ** exponent, rounding)

    @abc.abstractmethod
    def _encode_exact(self, integers: Integers, unit: Fraction, rounding: Rounding) -> tuple[Integers, Integers]:
        """Codes and scale codes of one group of integers x unit."""

    def _scale_code(self, value: Fraction, rounding: Rounding) -> int:
        return self.scale.encode_fraction(value, rounding)


def _total(integers: Integers) -> int:
    """The exact sum of integers, which may leave int64."""
    if integers.dtype == object:
        return sum(integers.tolist())
    high, low = integers >> 31, integers & ((1 << 31) - 1)
    return (int(high.sum()) << 31) + int(low.sum())


def _mean(integers: Integers) -> Fraction:
    return Fraction(_total(integers), integers.size) if integers.size else Fraction(0)


def _maximum(integers: Integers) -> Fraction:
    return Fraction(int(integers.max())) if integers.size else Fraction(0)


@dataclass(frozen=True, slots=True)
class ScaledBinary(ScaledSigns):
    """+-s with s the mean magnitude of the group. Named `binary<tensor>`, `binary<channel,float32>`."""

    per: Grouping = Grouping.TENSOR
    scale: ScalarFormat = _BFLOAT16
    element: ScalarFormat = field(default=Binary(), init=False)

    def __str__(self) -> str:
        return _name("binary", [str(self.per)], self.scale)

    def _encode_exact(self, integers: Integers, unit: Fraction, rounding: Rounding) -> tuple[Integers, Integers]:
        code = self._scale_code(_mean(np.abs(integers)) * unit, rounding)
        return self.element.encode_scaled(integers, 0), np.asarray([code])


@dataclass(frozen=True, slots=True)
class ScaledTernary(ScaledSigns):
    """{-s, 0, +s}: magnitudes above the threshold count. Named `ternary<mean>`, `ternary<max,mean,channel>`.

    threshold: mean is 0.7 x the mean magnitude, max 0.05 x the largest. scaled_by: mean or max of the
    magnitudes above the threshold; in a name the second word, mean if left out.
    """

    threshold: Statistic = Statistic.MEAN
    scaled_by: Statistic = Statistic.MEAN
    per: Grouping = Grouping.TENSOR
    scale: ScalarFormat = _BFLOAT16
    element: ScalarFormat = field(default=Ternary(), init=False)

    def __str__(self) -> str:
        words = [str(self.threshold)]
        words += [] if self.scaled_by is Statistic.MEAN else [str(self.scaled_by)]
        words += [] if self.per is Grouping.TENSOR else [str(self.per)]
        return _name("ternary", words, self.scale)

    def _encode_exact(self, integers: Integers, unit: Fraction, rounding: Rounding) -> tuple[Integers, Integers]:
        magnitudes = np.abs(integers)
        if self.threshold is Statistic.MEAN:
            threshold = Fraction(7, 10) * _mean(magnitudes)
        else:
            threshold = Fraction(1, 20) * _maximum(magnitudes)
        # Integers exceed a rational exactly when they exceed its floor.
        kept = magnitudes > threshold.numerator // threshold.denominator
        chosen: Integers = magnitudes[kept]
        scale = _mean(chosen) if self.scaled_by is Statistic.MEAN else _maximum(chosen)
        code = self._scale_code(scale * unit, rounding)
        signs = np.where(integers < 0, 3, 1)
        return np.where(kept, signs, 0), np.asarray([code])


@dataclass(frozen=True, slots=True)
class ResidualSign(ScaledSigns):
    """A sum of `count` scaled signs: each level takes the sign and the mean magnitude of what is left.

    Bit i of a code is the sign of level i (1 is +). Named `residual<2>`, `residual<3,channel>`.
    """

    count: int = 2
    per: Grouping = Grouping.TENSOR
    scale: ScalarFormat = _BFLOAT16
    element: ScalarFormat = field(default=Binary(), init=False)

    def __post_init__(self) -> None:
        check_integer("number of levels", self.count, 1, 8, "residual")
        check_scale(self)

    @property
    def levels(self) -> int:
        return self.count

    def __str__(self) -> str:
        words = [str(self.count)] + ([] if self.per is Grouping.TENSOR else [str(self.per)])
        return _name("residual", words, self.scale)

    def _encode_exact(self, integers: Integers, unit: Fraction, rounding: Rounding) -> tuple[Integers, Integers]:
        codes = np.zeros(integers.shape, dtype=np.int64)
        scales: list[int] = []
        rest = integers
        for level in range(self.count):
            code = self._scale_code(_mean(np.abs(rest)) * unit, rounding)
            scales.append(code)
            bits = self.element.encode_scaled(rest, 0)
            codes |= bits << level
            rest, unit = _subtracted(rest, unit, bits, self.scale.decode_fraction(code))
        return codes, np.asarray(scales)


def _subtracted(rest: Integers, unit: Fraction, bits: Integers, scale: Fraction) -> tuple[Integers, Fraction]:
    """rest x unit -+ scale, again as integers times a unit that divides both."""
    if scale == 0:
        return rest, unit
    finer = min(unit, Fraction(1, scale.denominator))
    wide: Integers = rest.astype(object) * int(unit / finer)
    step = int(scale / finer)
    signs: Integers = 2 * bits.astype(object) - 1
    return narrowed(wide - signs * step), finer


def _name(head: str, words: list[str], scale: ScalarFormat) -> str:
    return f"{head}<{','.join(words + ([] if scale == _BFLOAT16 else [str(scale)]))}>"


def _tail(name: str, words: list[str], example: str) -> tuple[Grouping, ScalarFormat]:
    """The optional grouping and scale format that end a name."""
    per, scale = Grouping.TENSOR, _BFLOAT16
    rest = list(words)
    if rest and rest[0] in tuple(Grouping):
        per = Grouping(rest.pop(0))
    if rest:
        found = parse_format(rest.pop(0))
        if not isinstance(found, ScalarFormat):
            raise malformed(name, "the scale must be a scalar format", example)
        scale = found
    if rest:
        raise malformed(name, f'"{rest[0]}" is one argument too many', example)
    return per, scale


def _build_ternary(name: str, arguments: list[str]) -> Format:
    if not arguments:
        return Ternary()
    words = list(arguments)
    chosen: list[Statistic] = []
    while words and len(chosen) < 2 and words[0] in tuple(Statistic):
        chosen.append(Statistic(words.pop(0)))
    if not chosen:
        raise malformed(name, "say how the threshold is made: mean or max", "ternary<mean>")
    scaled_by = chosen[1] if len(chosen) == 2 else Statistic.MEAN
    return ScaledTernary(chosen[0], scaled_by, *_tail(name, words, "ternary<mean,channel>"))


def _build_binary(name: str, arguments: list[str]) -> Format:
    return ScaledBinary(*_tail(name, arguments, "binary<channel>")) if arguments else Binary()


def _build_zero_one(name: str, arguments: list[str]) -> Format:
    if arguments:
        raise malformed(name, "binary01 takes no arguments", "binary01")
    return Binary(bipolar=False)


def _build_residual(name: str, arguments: list[str]) -> Format:
    if not arguments or not arguments[0].isdigit():
        raise malformed(name, "it needs the number of levels", "residual<2>")
    return ResidualSign(int(arguments[0]), *_tail(name, arguments[1:], "residual<2,channel>"))


register("binary", _build_binary)
register("binary01", _build_zero_one)
register("ternary", _build_ternary)
register("residual", _build_residual, "residual<2>")
register_pattern(lambda head, name, arguments: None, ("binary<channel>", "ternary<mean>", "ternary<max>"))
