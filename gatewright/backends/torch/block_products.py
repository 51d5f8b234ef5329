"""Products of operands in block formats: each block's exact product is cast into a window before the sum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewright.backends.torch.cast import cast
from gatewright.backends.torch.exporting import exporting

PRODUCT_BITS = 69
"""The widest exact product of a block that these helpers cast as if it were exact."""


def block_linear(value: Tensor, weight: Tensor, size: int, accumulator: str, wide: bool = False) -> Tensor:
    """``value @ weight.T`` with the exact product of each ``size`` inputs cast into ``accumulator``, then summed.

    Gradients pass through the cast. ``wide``: a block's product may take more than 53 bits.
    """
    if exporting():
        return F.linear(value, weight)
    left, right = (_in_blocks(each.double(), size) for each in (value, weight))
    return _summed("...bk,nbk->...nb", left, right, accumulator, wide)


def block_matmul(left: Tensor, right: Tensor, size: int, accumulator: str, wide: bool = False) -> Tensor:
    """``left @ right`` with blocks along the summed axis, each block's exact product cast into ``accumulator``."""
    if exporting():
        return torch.matmul(left, right)
    first, second = (_in_blocks(each.double(), size) for each in (left, right.mT))
    return _summed("...mbk,...nbk->...mnb", first, second, accumulator, wide)


def block_conv(
    value: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
    size: int,
    accumulator: str,
    wide: bool = False,
) -> Tensor:
    """A convolution of [batch, channels, *spatial] with blocks of ``size`` channels at each kernel position.

    Each block's exact product is cast into ``accumulator`` before the sum; ``padding`` is (before, after) of zeros
    per spatial axis.
    """
    around = [amount for pair in reversed(padding) for amount in pair]
    if exporting():
        conv = F.conv1d if len(stride) == 1 else F.conv2d
        if any(before != after for before, after in padding):
            return conv(F.pad(value, around), weight, bias, tuple(stride), 0, tuple(dilation), groups)
        sides = tuple(before for before, _ in padding)
        return conv(value, weight, bias, tuple(stride), sides, tuple(dilation), groups)
    padded = F.pad(value, around)
    pixels, kernel = padded.double().movedim(1, -1), weight.double().movedim(1, -1)
    total: Tensor | None = None
    for tap, under in _taps(pixels, tuple(weight.shape[2:]), stride, dilation):
        parts = [
            _summed("...bk,nbk->...nb", _in_blocks(left, size), _in_blocks(right, size), accumulator, wide)
            for left, right in zip(under.chunk(groups, -1), kernel[(slice(None), *tap)].chunk(groups), strict=True)
        ]
        result = parts[0] if groups == 1 else torch.cat(parts, -1)
        total = result if total is None else total + result
    assert total is not None
    return (total if bias is None else total + bias).movedim(-1, 1)


def _taps(
    pixels: Tensor, kernel: tuple[int, ...], stride: Sequence[int], dilation: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Every position of the kernel, and what lies under it at all positions of the result."""
    for tap in product(*(range(extent) for extent in kernel)):
        cuts: list[slice] = []
        for axis, position in enumerate(tap):
            room = pixels.shape[axis + 1] - (kernel[axis] - 1) * dilation[axis]
            start = position * dilation[axis]
            cuts.append(slice(start, start + room, stride[axis]))
        yield tap, pixels[(slice(None), *cuts)]


def _in_blocks(value: Tensor, size: int) -> Tensor:
    """The last axis as blocks of ``size``."""
    return value.reshape(*value.shape[:-1], -1, size)


def _summed(equation: str, left: Tensor, right: Tensor, accumulator: str, wide: bool) -> Tensor:
    """The exact products of blocks by ``equation``, the blocks last, cast and then summed."""
    dots = torch.einsum(equation, left, right)
    if wide:
        exact_dots = _wide_dots(equation, left.detach(), right.detach())
        dots = exact_dots + (dots - dots.detach())
    return cast(dots, accumulator).sum(-1)


def _wide_dots(equation: str, left: Tensor, right: Tensor) -> Tensor:
    """Exact products of blocks of up to 69 bits, rounded to odd in float64: a later rounding is as if exact.

    Every operand is split at 16 bits below its block's largest magnitude, so that the four partial products are exact.
    (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008.)
    """
    left_high, right_high = _upper_half(left), _upper_half(right)
    left_low, right_low = left - left_high, right - right_high
    high, low = torch.einsum(equation, left_high, right_high), torch.einsum(equation, left_low, right_low)
    middle = torch.einsum(equation, left_high, right_low) + torch.einsum(equation, left_low, right_high)
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
