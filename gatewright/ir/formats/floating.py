"""Floating point of any size, powers of two (block scales) and logarithmic numbers.

Sources: IEEE 754-2019 section 3 (binary interchange formats), OCP 8-bit Floating Point Specification 1.0
(E4M3, E5M2), OCP Microscaling Formats 1.0 section 5.3 (E3M2, E2M3, E2M1) and 5.4 (E8M0).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass

from gatewright.diagnostics import error
from gatewright.ir.formats.base import Format, check_integer
from gatewright.ir.formats.names import integer_argument, malformed, register, register_pattern
from gatewright.ir.formats.significand import Layout, SignificandFormat, Underflow


class Specials(enum.StrEnum):
    """Which codes are no numbers."""

    IEEE = "ieee"  # the highest exponent field: infinity at mantissa 0, else NaN
    FINITE = "finite"  # only all exponent and mantissa bits set: NaN; no infinity
    NONE = "none"  # every code is a finite number


_STANDARD_SPECIALS = {
    (4, 3): Specials.FINITE,
    (5, 2): Specials.IEEE,
    (5, 10): Specials.IEEE,
    (8, 7): Specials.IEEE,
    (8, 23): Specials.IEEE,
}
_ALIASES = {"float16": (5, 10), "bfloat16": (8, 7), "float32": (8, 23)}
_ALIAS_OF = {sizes: name for name, sizes in _ALIASES.items()}


@dataclass(frozen=True, slots=True)
class Float(SignificandFormat):
    """Sign, `exponent` bits, `mantissa` bits: (1 + mantissa / 2^M) x 2^(field - bias).

    `bias` None is the standard 2^(exponent - 1) - 1, `specials` None the standard's choice for that size:
    finite for E4M3, ieee for E5M2, float16, bfloat16 and float32, none for all others.
    Named `e4m3`, or with what differs from the standard: `e4m3<bias=8,ieee,flush,unsigned>`.
    """

    exponent: int
    mantissa: int
    bias: int | None = None
    specials: Specials | None = None
    underflow: Underflow = Underflow.GRADUAL
    signed: bool = True

    def __post_init__(self) -> None:
        head = f"e{self.exponent}m{self.mantissa}"
        check_integer("exponent width", self.exponent, 1, 11, head)
        check_integer("mantissa width", self.mantissa, 1, 50, head)
        if self.bias is not None:
            check_integer("bias", self.bias, -1023, 1074, head)
        # One spelling for one format, so that equal formats compare equal.
        if self.bias == self._standard_bias:
            object.__setattr__(self, "bias", None)
        if self.specials is self._standard_specials:
            object.__setattr__(self, "specials", None)
        self._check_layout(head)

    def _check_layout(self, head: str) -> None:
        layout = self.layout
        top = layout.lowest + (layout.largest >> layout.mantissa) + layout.precision
        if layout.lowest < -1074 or top > 1024 or self.width > 62:
            raise error(
                "GW0210",
                f"{head}: its values do not fit the float64 in which they are computed in software",
                note=f"smallest step 2^{layout.lowest}, largest value below 2^{top}, {self.width} bits",
                help="use at most 10 exponent bits, or another bias",
            )
        if self.underflow is Underflow.NO_ZERO:
            raise error("GW0210", f"{head}: a float has a zero", help="use a power-of-two format such as e8m0")
        if self.underflow is Underflow.DENORMAL and self.effective_specials is not Specials.NONE:
            raise error(
                "GW0210",
                f"{head}: the denormal-only variant has no infinity and no NaN",
                help=f"write {head}<none,denormal>",
            )
        if self.effective_specials is Specials.IEEE and self.exponent < 2:
            raise error(
                "GW0210",
                f"{head}: with one exponent bit, infinity and NaN leave no normal number",
                note="IEEE specials take the highest of the 2 exponent fields",
                help=f"write {head}<none>, or use two exponent bits",
            )

    @property
    def _standard_bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def _standard_specials(self) -> Specials:
        if self.underflow is Underflow.DENORMAL:
            return Specials.NONE
        return _STANDARD_SPECIALS.get((self.exponent, self.mantissa), Specials.NONE)

    @property
    def exponent_bias(self) -> int:
        """The bias in force."""
        return self._standard_bias if self.bias is None else self.bias

    @property
    def effective_specials(self) -> Specials:
        """The special codes in force."""
        return self._standard_specials if self.specials is None else self.specials

    @property
    def layout(self) -> Layout:
        bits = self.exponent + self.mantissa
        all_ones = (1 << bits) - 1
        lowest = 1 - self.exponent_bias - self.mantissa
        if self.underflow is Underflow.DENORMAL:
            lowest -= 1
        infinity = nan = None
        largest = all_ones
        if self.effective_specials is Specials.FINITE:
            nan, largest = all_ones, all_ones - 1
        elif self.effective_specials is Specials.IEEE:
            infinity = all_ones - ((1 << self.mantissa) - 1)
            nan, largest = infinity | 1 << (self.mantissa - 1), infinity - 1
        return Layout(self.mantissa, lowest, bits, largest, nan, infinity, self.signed, self.underflow)

    def __str__(self) -> str:
        options = [] if self.bias is None else [f"bias={self.bias}"]
        options += [] if self.specials is None else [str(self.specials)]
        options += [] if self.underflow is Underflow.GRADUAL else [str(self.underflow)]
        options += [] if self.signed else ["unsigned"]
        head = f"e{self.exponent}m{self.mantissa}"
        if options:
            return f"{head}<{','.join(options)}>"
        return _ALIAS_OF.get((self.exponent, self.mantissa), head)


@dataclass(frozen=True, slots=True)
class PowerOfTwo(SignificandFormat):
    """Unsigned 2^(code - bias) without a zero: the scale of a block. The highest code is NaN.

    Named `e8m0`, with another width `e5m0`, with another bias `e8m0<bias=100>`. Rounds to the nearest value
    (a tie upwards, as ml_dtypes does); zero and negative numbers give the smallest.
    """

    exponent: int
    bias: int | None = None

    def __post_init__(self) -> None:
        head = f"e{self.exponent}m0"
        check_integer("exponent width", self.exponent, 1, 10, head)
        if self.bias is not None:
            check_integer("bias", self.bias, -900, 900, head)
        if self.bias == (1 << (self.exponent - 1)) - 1:
            object.__setattr__(self, "bias", None)

    @property
    def exponent_bias(self) -> int:
        """The bias in force."""
        return (1 << (self.exponent - 1)) - 1 if self.bias is None else self.bias

    @property
    def layout(self) -> Layout:
        nan = (1 << self.exponent) - 1
        return Layout(0, -self.exponent_bias, self.exponent, nan - 1, nan, None, False, Underflow.NO_ZERO)

    def __str__(self) -> str:
        return f"e{self.exponent}m0" + ("" if self.bias is None else f"<bias={self.bias}>")


@dataclass(frozen=True, slots=True)
class Log(SignificandFormat):
    """Sign x 2^(field - bias); field 0 is zero. A product with it is a shift.

    `bias` None is 2^(width - 2) - 1. Rounds to the nearest value, not the nearest logarithm; a tie upwards.
    Named `log<width>`, `log<width,bias>`.
    """

    bits: int
    bias: int | None = None

    def __post_init__(self) -> None:
        check_integer("width", self.bits, 2, 11, "log")
        if self.bias is not None:
            check_integer("bias", self.bias, -1000, 1000, "log")
        if self.bias == (1 << (self.bits - 2)) - 1:
            object.__setattr__(self, "bias", None)
        lowest, field = self.layout.lowest, (1 << (self.bits - 1)) - 1
        if lowest < -1074 or lowest + field > 1024:
            raise error(
                "GW0210",
                f"{self}: its values do not fit the float64 in which they are computed in software",
                note=f"they reach from 2^{lowest} to 2^{lowest + field - 1}",
                help="use fewer bits or another bias",
            )

    @property
    def exponent_bias(self) -> int:
        """The bias in force."""
        return (1 << (self.bits - 2)) - 1 if self.bias is None else self.bias

    @property
    def layout(self) -> Layout:
        largest = (1 << (self.bits - 1)) - 1
        return Layout(0, 1 - self.exponent_bias, self.bits - 1, largest, None, None, True, Underflow.GRADUAL)

    def __str__(self) -> str:
        return f"log<{self.bits}>" if self.bias is None else f"log<{self.bits},{self.bias}>"


_MINIFLOAT = re.compile(r"e(\d{1,4})m(\d{1,4})")


def _recognise(head: str, name: str, arguments: list[str]) -> Format | None:
    """Names of the form `e4m3`, optionally with arguments in brackets."""
    match = _MINIFLOAT.fullmatch(head)
    if match is None:
        return None
    return _build_float(int(match[1]), int(match[2]), name, arguments)


def _build_float(exponent: int, mantissa: int, name: str, arguments: list[str]) -> Format:
    bias: int | None = None
    specials: Specials | None = None
    underflow = Underflow.GRADUAL
    signed = True
    example = f"e{exponent}m{mantissa}<bias=3>"
    for argument in arguments:
        if argument.startswith("bias="):
            bias = integer_argument(argument.removeprefix("bias="), name, example)
        elif mantissa > 0 and argument in tuple(Specials):
            specials = Specials(argument)
        elif mantissa > 0 and argument in ("gradual", "flush", "denormal"):
            underflow = Underflow(argument)
        elif mantissa > 0 and argument == "unsigned":
            signed = False
        else:
            raise malformed(name, f'"{argument}" is not an option of a floating-point format', example)
    if mantissa == 0:
        return PowerOfTwo(exponent, bias)
    return Float(exponent, mantissa, bias, specials, underflow, signed)


def _alias(exponent: int, mantissa: int) -> Callable[[str, list[str]], Format]:
    return lambda name, arguments: _build_float(exponent, mantissa, name, arguments)


def _build_log(name: str, arguments: list[str]) -> Format:
    if len(arguments) not in (1, 2):
        raise malformed(name, "it needs a width and optionally a bias", "log<5>")
    numbers = [integer_argument(argument, name, "log<5>") for argument in arguments]
    return Log(numbers[0], numbers[1] if len(numbers) == 2 else None)


register_pattern(_recognise, ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "e8m0", "e4m3<ieee,bias=8>"))
for _name, (_exponent, _mantissa) in _ALIASES.items():
    register(_name, _alias(_exponent, _mantissa))
register("log", _build_log, "log<5>")
