"""Tensor helpers that the operators' texts use: axes are a sample's, the batch stays in front."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

import torch
from torch import Tensor

from gatewright.backends.torch.cast import cast


def reshape(value: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements of each sample under ``shape``."""
    return value.reshape(value.shape[0], *shape)


def permute(value: Tensor, order: Sequence[int]) -> Tensor:
    """Each sample's axes in another order."""
    return value.permute(0, *(axis + 1 for axis in order))


def slice(value: Tensor, axis: int, start: int, stop: int, step: int = 1) -> Tensor:
    """Elements ``start, start + step, ... < stop`` of one axis of each sample."""
    return value[(*(builtins.slice(None),) * (axis + 1), builtins.slice(start, stop, step))]


def repeat(value: Tensor, like: Tensor) -> Tensor:
    """A constant repeated for every sample of the batch of ``like``."""
    return value.expand(like.shape[0], *value.shape)


def literal(values: object, like: Tensor) -> Tensor:
    """A constant tensor, on the device of ``like``."""
    return torch.tensor(values, dtype=torch.float32, device=like.device)


def exact(value: Tensor) -> Tensor:
    """``value`` in float64, for results that float32 could not hold exactly.

    While a model is exported, the dtype stays as it is: the exported program is read, not run.
    """
    return value if torch.compiler.is_exporting() else value.double()


def block_linear(value: Tensor, weight: Tensor, size: int, accumulator: str, wide: bool = False) -> Tensor:
    """``value @ weight.T`` with the exact product of each ``size`` inputs cast into ``accumulator``, then summed.

    Gradients pass through the cast. ``wide``: a block's product may take more than 53 bits.
    """
    if torch.compiler.is_exporting():
        return torch.nn.functional.linear(value, weight)
    left, right = (each.double().reshape(*each.shape[:-1], -1, size) for each in (value, weight))
    dots = _block_dots(left, right)
    if wide:
        exact_dots = _wide_dots(left.detach(), right.detach())
        dots = exact_dots + (dots - dots.detach())
    return cast(dots, accumulator).sum(-1)


def _block_dots(left: Tensor, right: Tensor) -> Tensor:
    return torch.einsum("...bk,nbk->...nb", left, right)


def _wide_dots(left: Tensor, right: Tensor) -> Tensor:
    """Exact products of blocks of up to 69 bits, rounded to odd in float64: a later rounding is as if exact.

    Every operand is split at 16 bits below its block's largest magnitude, so that the four partial products are exact.
    (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008.)
    """
    left_high, right_high = _upper_half(left), _upper_half(right)
    left_low, right_low = left - left_high, right - right_high
    high, low = _block_dots(left_high, right_high), _block_dots(left_low, right_low)
    middle = _block_dots(left_high, right_low) + _block_dots(left_low, right_high)
    first, rest = _two_sum(high, middle)
    total, missing = _two_sum(first, rest + low)
    bits = total.view(torch.int64)
    outward = (missing > 0) == (total > 0)
    neighbour = bits + torch.where(outward, 1, -1)
    return torch.where((missing != 0) & (bits & 1 == 0), neighbour, bits).view(torch.float64)


def _upper_half(value: Tensor) -> Tensor:
    """``value`` cut to the 16 bits that start at the leading one of its block's largest magnitude."""
    exponent = torch.frexp(value.abs().amax(-1, keepdim=True))[1] - 16
    return torch.ldexp(torch.ldexp(value, -exponent).trunc(), exponent)


def _two_sum(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The rounded sum and its exact error (Knuth)."""
    total = first + second
    other = total - first
    return total, (first - (total - other)) + (second - other)
