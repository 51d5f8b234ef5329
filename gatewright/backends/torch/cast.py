"""The cast in PyTorch: exact rounding on real tensors, with a straight-through gradient.

``gatewright::cast`` is an operator of its own, so that it survives ``torch.export`` (and is found
again by the importer), ``torch.compile`` and CUDA. Its forward is exact for every finite value: the
scaling by a power of two loses nothing, and ties are found from an exact difference.

Gradient: the identity where the value, once rounded, lies in the format's range, and zero where a
saturating cast clipped it (PACT, Choi et al. 2018); the identity everywhere for ``wrap`` and for ``plain``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gatewright.backends.torch.codecs import Codec, make_codec
from gatewright.backends.torch.exporting import exporting
from gatewright.ir.block_values import block_axes
from gatewright.ir.formats import (
    Block,
    CastSpec,
    Exact,
    Fixed,
    Gradient,
    Overflow,
    Real,
    Rounding,
    no_infinity,
    parse_cast,
)

FLOAT32_BITS = 24
"""Codes of up to this many bits are exact in float32."""

_FAST_BITS = FLOAT32_BITS - 2
_FAST_FRACTION = 60
_TINY = 2.0**-800
_SATURATING = (Overflow.SATURATE, Overflow.SATURATE_SYMMETRIC)
_FLOATS = (torch.float32, torch.float64)


@lru_cache(maxsize=4096)
def parsed(spec: str) -> CastSpec:
    """The cast that ``spec`` names; parsed once."""
    return parse_cast(spec)


@lru_cache(maxsize=4096)
def fits_float32(spec: CastSpec) -> bool:
    """Whether float32 holds every value of the format exactly."""
    format = spec.format
    if isinstance(format, Fixed):
        return format.width <= FLOAT32_BITS and abs(format.fraction_bits) <= 100
    return not isinstance(format, Exact)


@torch.compiler.assume_constant_result
def result_dtype(spec: str) -> torch.dtype | None:
    """The dtype that holds the results of a cast; None where the cast changes nothing."""
    found = parsed(spec)
    if isinstance(found.format, Real):
        return None
    return torch.float32 if fits_float32(found) else torch.float64


def cast_values(value: Tensor, spec: CastSpec, axis: int = -1) -> Tensor:
    """``value`` rounded into ``spec.format``, as reals of the same dtype (at least float32); blocks lie along ``axis``.

    NaN stays NaN, so that a diverging training shows; hardware codes have none.
    """
    if value.dtype not in _FLOATS:
        value = value.float()
    format = spec.format
    if isinstance(format, Real):
        return value.clone()
    if isinstance(format, Fixed):
        low, high = format.code_interval()
        if spec.overflow == Overflow.SATURATE_SYMMETRIC:
            low = max(low, -high)
        if _is_fast(value, format, spec):
            return _fast(value, format.fraction_bits, spec.rounding, low, high)
        codes = _rounded(_scaled(value.double(), format.fraction_bits), spec.rounding)
        return _limited(codes, low, high, spec.overflow).mul_(2.0**-format.fraction_bits).to(value.dtype)
    if isinstance(format, Exact):
        codes = _rounded(_scaled(value.double(), format.frac), spec.rounding)
        return (codes * 2.0**-format.frac).to(value.dtype)
    return block_codec(spec, axis).quantize(value)


@lru_cache(maxsize=256)
def block_codec(spec: CastSpec, axis: int = -1) -> Codec:
    """How tensors are cast to a format other than fixed point; blocks lie along ``axis``, from the end."""
    axes = block_axes(spec.format, axis) if isinstance(spec.format, Block) else None
    return make_codec(spec.format, axes, spec.rounding, spec.overflow)


def _is_fast(value: Tensor, format: Fixed, spec: CastSpec) -> bool:
    """Whether float32 arithmetic on ``value`` gives exact codes: all that is inexact is clipped anyway."""
    return (
        value.dtype == torch.float32
        and format.width <= _FAST_BITS
        and 0 <= format.fraction_bits <= _FAST_FRACTION
        and spec.overflow in _SATURATING
        and spec.rounding != Rounding.STOCHASTIC
    )


def _fast(value: Tensor, frac: int, rounding: Rounding, low: int, high: int) -> Tensor:
    """Few passes over one temporary. Half up is floor((floor(2v) + 1) / 2), exact where v + 0.5 is not."""
    scale = 2.0**frac
    match rounding:
        case Rounding.HALF_EVEN:
            codes = torch.mul(value, scale).round_()
        case Rounding.FLOOR:
            codes = torch.mul(value, scale).floor_()
        case Rounding.TOWARD_ZERO:
            codes = torch.mul(value, scale).trunc_()
        case Rounding.HALF_UP:
            codes = torch.mul(value, 2.0 * scale).floor_().add_(1.0).mul_(0.5).floor_()
        case Rounding.HALF_DOWN:
            codes = torch.mul(value, 2.0 * scale).ceil_().sub_(1.0).mul_(0.5).ceil_()
        case _:
            codes = _rounded(value * scale, rounding)
    return codes.clamp_(low, high).mul_(1.0 / scale)


def _scaled(value: Tensor, frac: int) -> Tensor:
    """float64 ``value`` x 2^frac; numbers so small that they would vanish keep their sign."""
    if frac < 0:
        tiny = torch.copysign(torch.full_like(value, _TINY), value)
        value = torch.where((value != 0) & (value.abs() < _TINY), tiny, value)
    return value * 2.0**frac


def _rounded(scaled: Tensor, rounding: Rounding) -> Tensor:
    """``scaled`` rounded to whole numbers; exact, because the distance to the nearest one is."""
    match rounding:
        case Rounding.HALF_EVEN:
            return scaled.round()
        case Rounding.FLOOR:
            return scaled.floor()
        case Rounding.TOWARD_ZERO:
            return scaled.trunc()
        case Rounding.STOCHASTIC:
            floor = scaled.floor()
            return floor + (torch.rand_like(scaled) < scaled - floor)
        case _:
            pass
    nearest = scaled.round()
    distance = scaled - nearest
    above, below = distance == 0.5, distance == -0.5
    match rounding:
        case Rounding.HALF_UP:
            return nearest + above
        case Rounding.HALF_DOWN:
            return nearest - below.to(nearest.dtype)
        case Rounding.HALF_AWAY:
            return nearest + (above & (scaled > 0)).to(nearest.dtype) - (below & (scaled < 0)).to(nearest.dtype)
        case _:
            return nearest + (above & (scaled < 0)).to(nearest.dtype) - (below & (scaled > 0)).to(nearest.dtype)


def _limited(codes: Tensor, low: int, high: int, overflow: Overflow) -> Tensor:
    """Whole numbers after the overflow. Above 53 bits the highest code is no float64, but the one after it is."""
    least, beyond = _bound(low), _bound(high + 1)
    match overflow:
        case Overflow.SATURATE | Overflow.SATURATE_SYMMETRIC:
            return codes.clamp_(least, _bound(high))
        case Overflow.SATURATE_ZERO:
            zero = _bound(min(max(0, low), high))
            return torch.where((codes >= least) & (codes < beyond), codes, zero)
        case Overflow.WRAP:
            # An infinity has no remainder: it counts as 0, as in the format's own encoding.
            count = _bound(high - low + 1)
            rest = torch.fmod(torch.where(codes.isinf(), 0.0, codes), count)
            lowered = torch.where(rest >= beyond, rest - count, rest)
            return torch.where(rest < least, rest + count, lowered)
        case Overflow.INFINITE:
            raise no_infinity(low, high)


def _bound(code: int) -> float:
    """A code as float64; beyond its range no value is, so infinity serves."""
    return float(code) if abs(code) < 1 << 1023 else math.inf if code > 0 else -math.inf


def laid_like(result: Tensor, operand: Tensor) -> Tensor:
    """``result`` with the strides of ``empty_like(operand)``, which torch.compile was told that it has."""
    if result.stride() == torch.empty_like(operand, device="meta").stride():
        return result
    return torch.empty_like(operand, dtype=result.dtype).copy_(result)


@torch.library.custom_op("gatewright::cast", mutates_args=())
def cast_operator(value: Tensor, spec: str, axis: int = -1) -> Tensor:
    """``value`` rounded into the format that ``spec`` names (``"fixed<8,4> half_even saturate"``)."""
    return laid_like(cast_values(value, parsed(spec), _from_end(value, axis)), value)


@cast_operator.register_fake
def _cast_fake(value: Tensor, spec: str, axis: int = -1) -> Tensor:  # pyright: ignore[reportUnusedFunction]
    return torch.empty_like(value, dtype=value.dtype if value.dtype in _FLOATS else torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Tensor, str, int], output: Tensor) -> None:
    value, spec, axis = inputs
    ctx.spec, ctx.axis = parsed(spec), _from_end(value, axis)
    ctx.save_for_backward(value)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    (value,) = ctx.saved_tensors
    return straight_through(gradient, value, ctx.spec, ctx.axis).to(value.dtype), None, None


def straight_through(gradient: Tensor, value: Tensor, spec: CastSpec, axis: int = -1) -> Tensor:
    """``gradient`` where ``value`` rounds into the range of the format, zero where it was clipped; all if plain."""
    format = spec.format
    if isinstance(format, Real | Exact) or spec.overflow == Overflow.WRAP or spec.gradient is Gradient.PLAIN:
        return gradient
    if not isinstance(format, Fixed):
        return gradient * block_codec(spec, axis).inside(value).to(gradient.dtype)
    low, high = format.code_interval()
    step = 2.0**-format.fraction_bits
    inside = (value >= (low - 0.5) * step) & (value <= (high + 0.5) * step)
    return gradient * inside.to(gradient.dtype)


cast_operator.register_autograd(_backward, setup_context=_setup_context)


def _from_end(value: Tensor, axis: int) -> int:
    """``axis`` of ``value`` counted from the end."""
    return axis if axis < 0 else axis - value.ndim


def cast(value: Tensor, spec: str, axis: int = -1) -> Tensor:
    """``value`` rounded into the format of ``spec``; float32 where that holds the format, else float64.

    A block format has its blocks along ``axis``: for a convolution's operands that is the axis of the channels.

    While a model is exported, the dtype stays as it is: the exported program is read, not run.
    """
    if exporting():
        return cast_operator(value, spec, axis)
    wanted = result_dtype(spec)
    if wanted is None:
        return value
    value = value.double() if wanted == torch.float64 else value
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and value.requires_grad):
        result = cast_operator(value, spec, axis)
    else:
        result = cast_values(value, parsed(spec), _from_end(value, axis))
    return result if result.dtype == wanted else result.to(wanted)
