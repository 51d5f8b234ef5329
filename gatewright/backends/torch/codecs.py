"""Quantise, encode and decode tensors in any format, with the very bits of `gatewright.ir.formats`.

    codec = make_codec(parse_format("mxfp8_e4m3"), axis=-1)
    codec.quantize(tensor)          # the nearest representable reals
    codec.fake_quantize(tensor)     # the same, with a straight-through gradient
    codes, scales = codec.encode(tensor)
    codec.decode(codes, scales)

A codec is a name. The numbers of its format are in a global table under that name, because torch.compile takes
numbers that it finds through globals for constants; those of an argument become variables of the compiled
kernel once a second codec is seen, and integers then have 64 bits.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from gatewright.backends.torch.casters import Caster, make_caster
from gatewright.ir.formats import Format, Overflow, Rounding, parse_cast
from gatewright.ir.formats.grouped import Axes

_CASTERS = SimpleNamespace()


class Codec:
    """One cast of tensors: a format, an axis, a rounding and an overflow."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def caster(self) -> Caster:
        """What computes it."""
        return getattr(_CASTERS, self.name)

    @property
    def format(self) -> Format:
        return self.caster.format

    def quantize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The values that `values` (floating, any type; the result has it too) are cast to."""
        return getattr(_CASTERS, self.name).quantize(values, generator)

    def encode(self, values: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Element codes in the shape of `values`, and scale codes or None."""
        return getattr(_CASTERS, self.name).encode(values, generator)

    def decode(self, codes: Tensor, scales: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """The values of codes."""
        return getattr(_CASTERS, self.name).decode(codes, scales, dtype)

    def inside(self, values: Tensor) -> Tensor:
        """True where the format can hold a value of that size: where a clipped gradient passes."""
        return getattr(_CASTERS, self.name).inside(values)

    def fake_quantize(self, values: Tensor, clip: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """`quantize` with the gradient of the identity; with `clip`, zero where the value saturated."""
        return cast(Tensor, _StraightThrough.apply(values, self, clip, generator))


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, codec: Codec, clip: bool, generator: torch.Generator | None) -> Tensor:
        ctx.clip = clip
        if clip:
            ctx.save_for_backward(codec.inside(values))
        result = codec.quantize(values, generator)
        # torch.compile of PyTorch 2.11 loses the gradient of a result that was made in place.
        return result.clone() if torch.compiler.is_compiling() else result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0]
        if ctx.clip:
            (inside,) = ctx.saved_tensors
            gradient = torch.where(inside, gradient, 0.0)
        return gradient, None, None, None


@cache
def make_codec(
    form: Format,
    axis: Axes | None = None,
    rounding: Rounding = Rounding.HALF_EVEN,
    overflow: Overflow | None = None,
) -> Codec:
    """The codec of a cast. `axis` is the blocked axis (or axes), or the channel axis of a scaled format."""
    limit = form.default_overflow if overflow is None else overflow
    name = f"codec_{len(vars(_CASTERS))}"
    setattr(_CASTERS, name, make_caster(form, axis, rounding, limit))
    return Codec(name)


def codec_of(name: str, axis: Axes | None = None) -> Codec:
    """The codec of the cast called `name`; torch.compile does not trace how it is made."""
    return Codec(_registered(name, axis))


@torch.compiler.assume_constant_result
def _registered(name: str, axis: Axes | None) -> str:
    return _registered_once(name, axis)


@cache
def _registered_once(name: str, axis: Axes | None) -> str:
    found = parse_cast(name)
    return make_codec(found.format, axis, found.rounding, found.overflow).name
