"""Random formats of every kind for any model: a cast for each role of each layer, roundings and overflows included."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from torch import nn

from gatewright.ir.formats import Block, Fixed, ScalarFormat, parse_format

ROUNDINGS = ("half_even", "half_even", "floor", "half_up", "half_down", "half_zero", "half_away", "toward_zero")
INTEGER_OVERFLOWS = ("saturate", "saturate_symmetric", "saturate_zero", "wrap")
STANDARD = ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "e3m4", "e4m3<ieee>", "e5m2<flush>", "bfloat16", "float16")
SIGNS_AND_LOGS = ("log<3>", "log<4>", "log<4,1>", "log<5>", "log<6,16>", "ternary", "binary", "binary01")
SCALED = (
    "binary<tensor>", "binary<channel>", "binary<channel,e8m0>", "residual<1>", "residual<2>", "residual<2,channel>",
    "ternary<mean>", "ternary<max>", "ternary<mean,max>", "ternary<mean,channel,fixed<12,9>>",
)  # fmt: skip
MICROSCALED = ("mxint8", "mxint6", "mxint3", "mxfp8", "mxfp8_e5m2", "mxfp6", "mxfp6_e2m3", "mxfp4")
ELEMENTS = ("fixed<6,5>", "ufixed<4,2>", "e2m1<denormal>", "e2m3<flush>", "log<4>", "ternary", "binary", "e4m3<ieee>")
SCALES = ("e8m0", "e5m0", "e7m0<bias=70>")
WITH_SPECIALS = ("saturate", "saturate", "saturate_zero", "infinite", "infinite")


class Formats:
    """Draws names of formats and casts."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def choose(self, options: Sequence[str]) -> str:
        """One of the options."""
        return self.random.choice(options)

    def minifloat(self) -> str:
        """A floating-point format of any size, any special codes and any underflow."""
        exponent, mantissa = self.random.randint(1, 5), self.random.randint(1, 4)
        kinds = ["", "", "finite", "none", "flush", "none,denormal", "unsigned", *(["ieee"] if exponent > 1 else [])]
        kind = self.choose(kinds)
        bias = f"bias={(1 << (exponent - 1)) - 1 + self.random.randint(-2, 2)}" if self.random.random() < 0.3 else ""
        options = ",".join(each for each in (kind, bias) if each)
        return f"e{exponent}m{mantissa}" + (f"<{options}>" if options else "")

    def scalar(self) -> str:
        """A format of one code an element."""
        kind = self.random.random()
        if kind < 0.3:
            width = self.random.randint(1, 12)
            return f"{self.choose(('fixed', 'fixed', 'ufixed'))}<{width},{self.random.randint(-1, width + 1)}>"
        return self.minifloat() if kind < 0.5 else self.choose(STANDARD if kind < 0.8 else SIGNS_AND_LOGS)

    def parameter(self) -> str:
        """A scalar format that holds parameters between -2 and 2."""
        width = self.random.randint(2, 12)
        found = self.scalar()
        return f"fixed<{width},{width - 2}>" if "fixed" in found else found

    def block(self, size: int) -> str:
        """A block format of ``size`` elements."""
        if self.random.random() < 0.6:
            return f"{self.choose(MICROSCALED)}<{size}>"
        return f"block<{self.choose(ELEMENTS)},{self.choose(SCALES)},{size}>"

    def cast(self, name: str) -> str:
        """The format with a rounding and an overflow that it has."""
        format = parse_format(name)
        words = f"{name} {self.choose(ROUNDINGS)}"
        if isinstance(format, Block):
            return words
        assert isinstance(format, ScalarFormat)
        if isinstance(format, Fixed):
            return f"{words} {self.choose(INTEGER_OVERFLOWS)}"
        return f"{words} {self.choose(WITH_SPECIALS)}" if format.has_nan or format.has_infinity else words

    def weight(self) -> str:
        """The cast of a layer's weights."""
        return self.choose(SCALED) if self.random.random() < 0.2 else self.cast(self.parameter())


def summed(layer: nn.Module) -> int:
    """How many elements of one position a layer sums: what blocks must divide."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    return layer.in_channels // layer.groups if isinstance(layer, nn.Conv1d | nn.Conv2d) else 1


def draw_all_formats(model: nn.Module, layers: set[str], seed: int) -> dict[str, Any]:
    """Rules for a model: other formats for every one of its ``layers``, blocks where they fit, and a default."""
    formats = Formats(seed)
    names: dict[str, dict[str, str]] = {}
    for name, layer in model.named_modules():
        sizes = [size for size in (2, 4, 8) if summed(layer) % size == 0]
        casts: dict[str, str] = {}
        if name not in layers:
            continue
        if sizes and formats.random.random() < 0.5:
            size = formats.random.choice(sizes)
            casts["input"] = formats.cast(formats.block(size))
            casts["weight"] = formats.cast(
                formats.block(size) if formats.random.random() < 0.7 else formats.parameter()
            )
            if formats.random.random() < 0.5:
                width = formats.random.randint(8, 40)
                casts["accumulator"] = formats.cast(f"fixed<{width},{formats.random.randint(0, width)}>")
        elif isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            casts = {"input": formats.cast(formats.scalar()), "weight": formats.weight()}
        if casts:
            casts["bias"] = formats.cast(formats.parameter())
            if formats.random.random() < 0.4:
                casts["output"] = formats.cast(formats.scalar())
            names[name] = casts
    default = {
        "input": formats.cast(formats.scalar()),
        "weight": formats.cast(formats.parameter()),
        "bias": formats.cast(formats.parameter()),
    }
    return {"default": default, "name": names}
