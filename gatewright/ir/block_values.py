"""A tensor in a block format at the integer level: its elements and its scales as two values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gatewright.diagnostics import GatewrightError, error
from gatewright.ir.builder import Builder
from gatewright.ir.formats import Block, CastSpec
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.types import Shape, Value


@dataclass(frozen=True, slots=True)
class BlockValue:
    """A tensor in a block format: codes ``elements`` [..., blocks, size] and ``scales`` [..., blocks, 1].

    ``shape`` is the tensor's own and ``axis`` its blocked axis, counted from the end (-1 is the last); the
    elements have that axis behind all others. Of a constant the last block may be partly filled.
    """

    elements: Value
    scales: Value
    format: Block
    shape: Shape
    axis: int = -1


def block_axes(format: Block, axis: int) -> tuple[int, ...]:
    """The axes, from the end, of blocks along ``axis``: of a tile the rows lie along the axis before it."""
    return tuple(range(axis - len(format.sizes) + 1, axis + 1))


def check_axis(format: Block, rank: int, axis: int, role: str) -> None:
    """GW0211 where a tensor of ``rank`` axes lacks those of the blocks."""
    if rank < -block_axes(format, axis)[0]:
        raise error(
            "GW0211",
            f"{role}: {format} cannot lie along axis {axis} of a tensor with {rank} axes",
            note=f"its blocks need the axes {', '.join(map(str, block_axes(format, axis)))}",
            help="use a scalar format here, or cast along an axis that the tensor has",
        )


def moved_last(shape: Shape, axis: int) -> Shape:
    """``shape`` with ``axis`` (from the end) behind all others."""
    position = len(shape) + axis
    return (*shape[:position], *shape[position + 1 :], shape[position])


def fitted(format: Block, length: int) -> Block:
    """``format`` for an axis of ``length``: where a block is longer than the axis, one of that length.

    The two are the same numbers, since a block that does not fill up is as if it were padded with zeros.
    """
    if not 0 < length < format.sizes[-1]:
        return format
    return replace(format, size=(*format.sizes[:-1], length))


def block_shape(format: Block, shape: Shape, role: str, axis: int = -1) -> Shape:
    """The shape of a block value's elements; GW0380 where blocks do not fill the axis."""
    check_axis(format, len(shape), axis, role)
    size = format.sizes[-1]
    *lead, length = moved_last(shape, axis)
    if length % size:
        raise partial_blocks(format, role, length, "" if axis == -1 else f" (axis {axis} of {list(shape)})")
    return (*lead, length // size, size)


def partial_blocks(format: Block, role: str, length: int, where: str = "") -> GatewrightError:
    """The error GW0380 of an axis of ``length`` that ends with part of a block."""
    size = format.sizes[-1]
    dividing = max(each for each in range(1, size + 1) if length % each == 0)
    smaller = replace(format, size=(*format.sizes[:-1], dividing))
    choose = (
        f'choose a block size that divides {length}, such as "{smaller}"' if dividing > 1 else "use a scalar format"
    )
    return error(
        "GW0380",
        f"{role}: blocks of {size} do not fill an axis of {length}{where}",
        note=f"{format} shares one scale among {size} elements, and hardware sends whole blocks",
        help=f"pad the axis to {-(-length // size) * size}, or {choose}",
    )


def encoded_blocks(real: IntegerArray, spec: CastSpec, axis: int) -> tuple[IntegerArray, IntegerArray]:
    """Codes [..., blocks, size] and scale codes [..., blocks, 1] of ``real``, whose leading axes may be any.

    Tiles over two axes repeat their scale along the rows. Zeros fill up the last block.
    """
    format = spec.format
    assert isinstance(format, Block)
    axes = block_axes(format, axis)
    codes, scales = format.encode(real, axes, spec.rounding, spec.overflow)
    for each, size in zip(axes[:-1], format.sizes[:-1], strict=True):
        scales = np.repeat(scales, size, axis=each).take(range(real.shape[each]), axis=each)
    codes, scales = np.moveaxis(codes, axis, -1), np.moveaxis(scales, axis, -1)
    missing = -codes.shape[-1] % format.sizes[-1]
    codes = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, missing)]) if missing else codes
    size = format.sizes[-1]
    return codes.reshape(*codes.shape[:-1], codes.shape[-1] // size, size), scales[..., np.newaxis]


def with_axis_last(builder: Builder, value: Value, axis: int) -> Value:
    """``value`` with ``axis`` (from the end) behind all others; a constant stays one."""
    if axis == -1:
        return value
    codes = builder.constant_of(value)
    if codes is not None:
        return builder.integers(np.moveaxis(codes, axis, -1), value.format, value.name)
    from gatewright.ir.ops.permute import Permute

    rank = len(value.shape)
    position = rank + axis
    return builder.add(Permute((*range(position), *range(position + 1, rank), position)), value)
