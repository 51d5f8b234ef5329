"""Operators that only move elements, and reductions along other axes than rows, in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gatewright.backends.triton.expressions import storage_type
from gatewright.ir.graph import Node
from gatewright.ir.intervals import fits_int64
from gatewright.ir.operator import Operator
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.ops.slice import Slice
from gatewright.ir.ops.window import Window


def can_move(node: Node) -> bool:
    """Whether :func:`move` computes the node."""
    moves = isinstance(node.op, Concat | Pad | Permute | Reshape | Slice | Window | Reduce)
    return moves and fits_int64(node.output.interval, *(value.interval for value in node.inputs))


def move(node: Node, tensors: list[Tensor], batch: int) -> Tensor:
    """The node's codes, a view of its operand where one exists; the operand of a pad or window has its border."""
    op, first = node.op, tensors[0]
    stored = storage_type(node.output.interval)
    match op:
        case Reshape() | Permute() | Slice():
            return seen_through([node], first)
        case Concat():
            return torch.cat([each.expand(batch, *each.shape[1:]).to(stored) for each in tensors], dim=op.axis + 1)
        case Pad():
            return first
        case Window():
            return _windows(op, first.to(stored))
        case Reduce():
            return _reduced(op, first, stored)
        case _:
            raise TypeError(f"{op.name} moves nothing")


def is_view(op: Operator) -> bool:
    """Whether the operator only names its operand's elements otherwise; a window with a border does not."""
    unpadded = isinstance(op, Window) and not any(map(any, op.padding))
    return unpadded or isinstance(op, Reshape | Permute | Slice)


def seen_through(nodes: Sequence[Node], codes: Tensor) -> Tensor:
    """The codes [batch, ...] behind nodes that are views (:func:`is_view`), in their order and type."""
    for node in nodes:
        match node.op:
            case Reshape(shape=shape):
                codes = codes.reshape(codes.shape[0], *shape)
            case Permute(order=order):
                codes = codes.permute(0, *(axis + 1 for axis in order))
            case Slice(axis=axis, start=start, stop=stop, step=step):
                codes = codes[(*(slice(None),) * (axis + 1), slice(start, stop, step))]
            case Window() as op:
                codes = _windows(op, codes)
            case op:
                raise TypeError(f"{op.name} is no view")
    return codes


def _windows(op: Window, padded: Tensor) -> Tensor:
    """Every output position's neighbourhood, as a view of the padded operand."""
    whole = tuple((0, 0) for _ in op.padding)
    positions = replace(op, padding=whole).positions(tuple(padded.shape[1:-1]))
    first, *spatial, last = padded.stride()
    steps = [stride * step for stride, step in zip(spatial, op.stride, strict=True)]
    taps = [stride * step for stride, step in zip(spatial, op.dilation, strict=True)]
    shape = (padded.shape[0], *positions, *op.kernel, padded.shape[-1])
    return padded.as_strided(shape, (first, *steps, *taps, last), padded.storage_offset())


def _reduced(op: Reduce, codes: Tensor, stored: torch.dtype) -> Tensor:
    axes = tuple(axis + 1 for axis in op.axes)
    match op.kind:
        case "sum":
            return codes.sum(dim=axes, keepdim=True, dtype=torch.int64).to(stored)
        case "max":
            return torch.amax(codes, dim=axes, keepdim=True)
        case "min":
            return torch.amin(codes, dim=axes, keepdim=True)
        case _:
            for axis in axes:
                codes = _or_along(codes, axis)
            return codes.to(stored)


def _or_along(codes: Tensor, axis: int) -> Tensor:
    """The bitwise or along an axis, by halves."""
    while (size := codes.shape[axis]) > 1:
        half = size // 2
        first, second = codes.narrow(axis, 0, half), codes.narrow(axis, half, half)
        codes = torch.cat([first | second, codes.narrow(axis, 2 * half, size - 2 * half)], dim=axis)
    return codes
