"""Tensor helpers that the operators' texts use: axes are a sample's, the batch stays in front."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

import torch
from torch import Tensor

from gatewright.backends.torch.exporting import exporting


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


def adaptive_sum(value: Tensor, sizes: Sequence[int]) -> Tensor:
    """The sums over PyTorch's adaptive windows, ``sizes`` of them along the axes behind the channels."""
    for axis, outputs in enumerate(sizes, start=2):
        size = value.shape[axis]
        windows = [(k * size // outputs, -(-(k + 1) * size // outputs)) for k in range(outputs)]
        sums = [value.narrow(axis, start, stop - start).sum(axis, keepdim=True) for start, stop in windows]
        value = torch.cat(sums, axis)
    return value


def exact(value: Tensor) -> Tensor:
    """``value`` in float64, for results that float32 could not hold exactly.

    While a model is exported, the dtype stays as it is: the exported program is read, not run.
    """
    return value if exporting() else value.double()
