"""Names of formats, roundings, overflows and casts: `parse_*` reads what `str` prints."""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gatewright.diagnostics import GatewrightError, error
from gatewright.ir.formats.base import Format, Real
from gatewright.ir.formats.fixed import Exact, Fixed
from gatewright.ir.formats.rounding import Overflow, Rounding

_EXACT = re.compile(r"exact 2\^(-?\d+)")

# The names that vendors' fixed-point libraries use for the same modes.
_ROUNDING_ALIASES = {
    "trn": Rounding.FLOOR,
    "rnd": Rounding.HALF_UP,
    "rnd_conv": Rounding.HALF_EVEN,
    "trn_zero": Rounding.TOWARD_ZERO,
    "rnd_zero": Rounding.HALF_ZERO,
    "rnd_min_inf": Rounding.HALF_DOWN,
    "rnd_inf": Rounding.HALF_AWAY,
}
_OVERFLOW_ALIASES = {
    "sat": Overflow.SATURATE,
    "sat_sym": Overflow.SATURATE_SYMMETRIC,
    "sat_zero": Overflow.SATURATE_ZERO,
}


class Gradient(enum.StrEnum):
    """What a cast does to gradients in training; hardware does not know."""

    CLIPPED = "clipped"  # straight through, but zero where the value was saturated
    PLAIN = "plain"  # straight through everywhere


ROUNDING_WORDS: dict[str, Rounding] = {mode.value: mode for mode in Rounding} | _ROUNDING_ALIASES
OVERFLOW_WORDS: dict[str, Overflow] = {mode.value: mode for mode in Overflow} | _OVERFLOW_ALIASES
GRADIENT_WORDS: dict[str, Gradient] = {mode.value: mode for mode in Gradient}

FormatBuilder = Callable[[str, list[str]], Format]
"""Builds a format from its whole name and the arguments between its angle brackets."""


@dataclass(frozen=True, slots=True)
class CastSpec:
    """A visible loss of information: the target format, how to round and overflow into it, and how it trains."""

    format: Format
    rounding: Rounding = Rounding.HALF_EVEN
    overflow: Overflow = Overflow.SATURATE
    gradient: Gradient = Gradient.CLIPPED

    def __str__(self) -> str:
        if isinstance(self.format, Real):
            return str(self.format)
        plain = " plain" if self.gradient is Gradient.PLAIN else ""
        return f"{self.format} {self.rounding} {self.overflow}{plain}"


def cast_to(format: Format) -> CastSpec:
    """The cast to `format` with its default overflow and rounding half to even."""
    return CastSpec(format, overflow=format.default_overflow)


def parse_cast(text: str) -> CastSpec:
    """`"ufixed<8,4> half_up saturate"`: a format, then optionally a rounding, an overflow and a gradient, any order."""
    words = _tidy(text).split(" ")
    length = 2 if words[0] == "exact" else 1
    format = parse_format(" ".join(words[:length]))
    rounding: Rounding | None = None
    overflow: Overflow | None = None
    gradient: Gradient | None = None
    for word in words[length:]:
        if word in ROUNDING_WORDS and rounding is None:
            rounding = ROUNDING_WORDS[word]
        elif word in OVERFLOW_WORDS and overflow is None:
            overflow = OVERFLOW_WORDS[word]
        elif word in GRADIENT_WORDS and gradient is None:
            gradient = GRADIENT_WORDS[word]
        else:
            raise _bad_word(word, text)
    overflow = overflow or format.default_overflow
    return CastSpec(format, rounding or Rounding.HALF_EVEN, overflow, gradient or Gradient.CLIPPED)


def _bad_word(word: str, text: str) -> GatewrightError:
    known = ROUNDING_WORDS.keys() | OVERFLOW_WORDS.keys() | GRADIENT_WORDS.keys()
    if word in known:
        return error(
            "GW0208",
            f'"{text}" gives more than one rounding, overflow or gradient',
            help=f"remove {word}",
        )
    return error(
        "GW0207",
        f'"{word}" in "{text}" is neither a rounding nor an overflow nor a gradient',
        note=f"roundings: {', '.join(Rounding)}; overflows: {', '.join(Overflow)}; gradients: {', '.join(Gradient)}",
        help=_suggestion(word, known),
    )


def parse_format(name: str) -> Format:
    """The format of that name; the inverse of `str`. Case and blanks do not matter.

    Raises GW0202 for a name that no format has, GW0209 for malformed arguments, GW0201 for impossible ones.
    """
    tidy = _tidy(name)
    exact = _EXACT.fullmatch(tidy)
    if exact:
        return Exact(-int(exact[1]))
    head, arguments = split_arguments(tidy)
    builder = _BUILDERS.get(head)
    if builder is not None:
        return builder(tidy, arguments)
    for recognise in _PATTERNS:
        format = recognise(head, tidy, arguments)
        if format is not None:
            return format
    raise error(
        "GW0202",
        f'there is no number format "{name}"',
        note=f"known: {', '.join(sorted(_EXAMPLES))}",
        help=_called_here(tidy) or _suggestion(tidy, known_names(), fallback=head),
    )


def known_names() -> list[str]:
    """Names that `parse_format` accepts as they stand, with an example for each parameterised family."""
    return sorted(_EXAMPLES)


_ELSEWHERE = {
    "half": "float16", "fp16": "float16", "bf16": "bfloat16", "float": "float32", "single": "float32",
    "fp32": "float32", "fp8": "e4m3", "float8": "e4m3", "fp8_e4m3": "e4m3", "float8_e4m3fn": "e4m3",
    "fp8_e5m2": "e5m2", "float8_e5m2": "e5m2", "fp6": "e3m2", "fp6_e3m2": "e3m2", "fp6_e2m3": "e2m3", "fp4": "e2m1",
    "fp4_e2m1": "e2m1", "float4_e2m1fn": "e2m1", "float8_e8m0fnu": "e8m0", "bool": "binary01",
}  # fmt: skip
"""What other libraries call some formats."""
_WHOLE = re.compile(r"(u?)int(\d+)")


def _called_here(name: str) -> str:
    """The suggestion for a name that another library uses; empty for others."""
    whole = _WHOLE.fullmatch(name)
    if whole is not None and int(whole[2]):
        known = f"{whole[1]}fixed<{whole[2]},0>"
        return f'did you mean "{known}", whole numbers, or "{whole[1]}fixed<{whole[2]},auto>"?'
    return f'did you mean "{_ELSEWHERE[name]}"?' if name in _ELSEWHERE else ""


def _suggestion(word: str, known: Iterable[str], fallback: str | None = None) -> str:
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.4)
    if not close and fallback is not None:
        close = [name for name in names if name.split("<")[0] == fallback][:1]
    return f'did you mean "{close[0]}"?' if close else "see docs/formats.md for all formats"


def _tidy(text: str) -> str:
    """Lower case, no blanks inside brackets, single blanks elsewhere."""
    lowered = " ".join(text.lower().split())
    lowered = re.sub(r"\s*([<>,=])\s*", r"\1", lowered)
    return re.sub(r">(?=[a-z])", "> ", lowered)


def split_arguments(name: str) -> tuple[str, list[str]]:
    """`block<fixed<6,5>,e8m0,16>` to `block` and its three arguments, which may be bracketed themselves."""
    if "<" not in name:
        return name, []
    head, _, rest = name.partition("<")
    if not rest.endswith(">"):
        raise malformed(name, "a bracket is not closed")
    parts: list[str] = []
    depth = start = 0
    body = rest[:-1]
    for position, character in enumerate(body + ","):
        depth += (character == "<") - (character == ">")
        if depth < 0:
            raise malformed(name, "a bracket is closed that was never opened")
        if character == "," and depth == 0:
            parts.append(body[start:position])
            start = position + 1
    if depth != 0 or "" in parts:
        raise malformed(name, "a bracket is not closed" if depth else "an argument is empty")
    return head, parts


def malformed(name: str, problem: str, example: str = "fixed<8,4>") -> GatewrightError:
    """GW0209: `name` is a known kind of format, written wrongly."""
    return error("GW0209", f'"{name}": {problem}', help=f"write it like {example}")


def integer_argument(text: str, name: str, example: str) -> int:
    """`text` as an integer, or GW0209."""
    if not re.fullmatch(r"[+-]?\d{1,9}", text):
        raise malformed(name, f'"{text}" is not a whole number', example)
    return int(text)


def register(head: str, builder: FormatBuilder, example: str | None = None) -> None:
    """Make `parse_format` read names that start with `head`; `example` is shown and suggested."""
    _BUILDERS[head] = builder
    _EXAMPLES.add(example or head)


PatternBuilder = Callable[[str, str, list[str]], Format | None]


def register_pattern(recognise: PatternBuilder, examples: Iterable[str]) -> None:
    """Make `parse_format` try `recognise(head, name, arguments)`, which gives None for names not its own."""
    _PATTERNS.append(recognise)
    _EXAMPLES.update(examples)


_BUILDERS: dict[str, FormatBuilder] = {}
_PATTERNS: list[PatternBuilder] = []
_EXAMPLES: set[str] = {"exact 2^-8"}


def _build_real(name: str, arguments: list[str]) -> Format:
    if arguments:
        raise malformed(name, "real takes no arguments", "real")
    return Real()


def _build_fixed(name: str, arguments: list[str]) -> Format:
    signed = name.startswith("fixed")
    example = "fixed<8,4>" if signed else "ufixed<8,4>"
    if len(arguments) != 2:
        raise malformed(name, "it needs a width and the fraction bits", example)
    frac = None if arguments[1] == "auto" else integer_argument(arguments[1], name, example)
    return Fixed(integer_argument(arguments[0], name, example), frac, signed)


register("real", _build_real)
register("fixed", _build_fixed, "fixed<8,4>")
register("ufixed", _build_fixed, "ufixed<8,4>")
