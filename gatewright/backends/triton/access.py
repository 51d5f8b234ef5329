"""How a printed kernel reads and writes tensors: strides over collapsed axes, as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gatewright.backends.triton.expressions import register_type
from gatewright.ir.intervals import IntegerArray, Interval

Sizes = tuple[int | None, ...]
"""Extents of axes; None is the leading one, which changes from call to call."""

LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Held:
    """Codes at run time: the sum of ``parts``, each counting 2^shift; one part of shift 0 as a rule.

    Every part has the shape [batch or 1, *shape]. Products of split operands stay sums until a kernel reads them.
    """

    parts: tuple[Tensor, ...]
    shifts: tuple[int, ...] = (0,)

    @property
    def is_single(self) -> bool:
        """Whether one tensor holds the codes themselves."""
        return self.shifts == (0,)

    @property
    def first(self) -> Tensor:
        """The first part, which has the value's shape."""
        return self.parts[0]

    def permuted(self, order: Sequence[int]) -> Held:
        """The axes (batch included) in another order."""
        return Held(tuple(each.permute(tuple(order)) for each in self.parts), self.shifts)

    def expanded(self, shape: Sequence[int]) -> Held:
        """Broadcast to [batch, *shape] as numpy does, aligned at the last axis behind the batch."""
        rank = len(shape)
        views: list[Tensor] = []
        for part in self.parts:
            missing = rank - part.ndim
            views.append(part[(slice(None), *(None,) * missing)].expand(tuple(shape)))
        return Held(tuple(views), self.shifts)


@dataclass(frozen=True, slots=True)
class Access:
    """One pointer of a kernel: its parameter, its strides (elements) by axis, and the power of two it counts."""

    parameter: str
    strides: tuple[int, ...]
    shift: int = 0


@dataclass(frozen=True, slots=True)
class Operand:
    """One value that a kernel reads: a sum of accesses, computed with in ``work``."""

    accesses: tuple[Access, ...]
    interval: Interval

    @property
    def work(self) -> str:
        """The register type."""
        return register_type(self.interval)

    def load(self, coordinates: Sequence[str], mask: str | Callable[[Access], str]) -> str:
        """The text that loads the value at these coordinates, one for each axis.

        ``mask`` has the shape of the places; a function gives it for each access. Where it is not, the value is
        unspecified.
        """
        terms: list[str] = []
        for each in self.accesses:
            place = offset_text(coordinates, each.strides)
            guard = mask if isinstance(mask, str) else mask(each)
            text = f"tl.load({each.parameter} + {place}, mask={guard}, other=0).to(tl.{self.work})"
            terms.append(f"({text} << {each.shift})" if each.shift else text)
        return " + ".join(terms)

    def raw(self, coordinates: Sequence[str], mask: str) -> str:
        """The text that loads a single access in the type in which it lies, 0 where ``mask`` is not.

        Always 0: Triton gives neighbouring lanes other values than ``other`` where that is negative and narrow.
        """
        (access,) = self.accesses
        return f"tl.load({access.parameter} + {offset_text(coordinates, access.strides)}, mask={mask}, other=0)"


@dataclass(frozen=True, slots=True, eq=False)
class KernelSource:
    """A printed kernel: its function's name, its whole text, and its tables in the order of its parameters.

    ``placed`` keeps the tables on the devices that ran it.
    """

    name: str
    text: str
    tables: tuple[IntegerArray, ...]
    placed: dict[torch.device, list[Tensor]] = field(default_factory=dict[torch.device, list[Tensor]])


def offset_text(coordinates: Sequence[str], strides: Sequence[int]) -> str:
    """The element's place; a coordinate of stride 0 still gives the shape."""
    terms = [
        name if stride == 1 else f"{name} * {stride}"
        for name, stride in zip(coordinates, strides, strict=True)
        if stride
    ]
    text = " + ".join(terms) if terms else f"{coordinates[-1]} * 0"
    return text if text.isidentifier() else f"({text})"


def collapse(sizes: Sizes, strides: Sequence[Sequence[int]]) -> tuple[Sizes, list[tuple[int, ...]]]:
    """Fewer axes for the same elements: neighbours that every tensor walks evenly become one.

    Axes of extent 1 go, but for the leading one. ``strides`` has one row for each tensor.
    """
    kept: list[int | None] = [sizes[0]]
    rows = [[row[0]] for row in strides]
    for axis in range(1, len(sizes)):
        size = sizes[axis]
        assert size is not None
        if size == 1:
            continue
        if all(row[-1] == given[axis] * size for row, given in zip(rows, strides, strict=True)):
            if kept[-1] is not None:
                kept[-1] *= size
            for row, given in zip(rows, strides, strict=True):
                row[-1] = given[axis]
        else:
            kept.append(size)
            for row, given in zip(rows, strides, strict=True):
                row.append(given[axis])
    return tuple(kept), [tuple(row) for row in rows]


def coordinates_text(place: str, sizes: Sizes, prefix: str) -> tuple[list[str], list[str]]:
    """Statements that take a flat ``place`` apart, and the coordinates' names, one for each axis."""
    if len(sizes) == 1:
        return [], [place]
    lines: list[str] = []
    names = [f"{prefix}{axis}" for axis in range(len(sizes))]
    rest = place
    for axis in range(len(sizes) - 1, 0, -1):
        lines.append(f"{names[axis]} = {rest} % {sizes[axis]}")
        if axis > 1:
            lines.append(f"{prefix}rest{axis} = {rest} // {sizes[axis]}")
            rest = f"{prefix}rest{axis}"
        else:
            lines.append(f"{names[0]} = {rest} // {sizes[axis]}")
    return lines, names


def is_far(*tensors: Tensor) -> bool:
    """Whether an element's place in one of the tensors can exceed int32."""
    for each in tensors:
        reach = sum((size - 1) * abs(stride) for size, stride in zip(each.shape, each.stride(), strict=True))
        if reach > LARGEST_INT32 or each.numel() > LARGEST_INT32:
            return True
    return False


def access_groups(
    name: str, held: Sequence[Held], rows: Iterator[tuple[int, ...]], intervals: Sequence[Interval]
) -> tuple[Operand, ...]:
    """The operands of a kernel, their parameters named after ``name``; one row of strides for each part."""
    return tuple(
        Operand(
            tuple(Access(f"{name}{index}_{part}" if part else f"{name}{index}", next(rows), shift)
                  for part, shift in enumerate(each.shifts)),
            interval,
        )
        for index, (each, interval) in enumerate(zip(held, intervals, strict=True))
    )  # fmt: skip


def identifier(name: str) -> str:
    """A value's name as a Python identifier."""
    return re.sub(r"\W", "_", name)


def triton_type(dtype: torch.dtype) -> str:
    """``tl.int8`` for torch.int8."""
    return "tl." + str(dtype).removeprefix("torch.")
