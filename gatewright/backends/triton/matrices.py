"""Large products through the library's int8 matrix product, exact at any width of the operands.

Operands are split into int8 digits (balanced, so that no correction is needed; codes that span at most 256
values take an offset instead), the summed axis into runs of which int32 holds every sum. The results stay
parts of a sum: the kernel that reads them adds them up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gatewright.backends.triton.access import Held
from gatewright.backends.triton.products import LONGEST, offset_for
from gatewright.ir.intervals import Interval

MOST_PRODUCTS = 6
"""int8 products up to which the split is taken; above, exact float64 products are faster."""


_SHORT = Interval(-(1 << 15), (1 << 15) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Digits:
    """A matrix [rows, summed] as int8 digits of weight 2^(8 i), plus a constant offset in every element.

    ``sums`` are the rows' sums, where a product needs them.
    """

    parts: tuple[Tensor, ...]
    offset: int = 0
    sums: Tensor | None = None

    def with_sums(self) -> Digits:
        """The same digits with the sums of the rows, offset left out."""
        weighted = [part.sum(dim=1, dtype=torch.int64) << (8 * place) for place, part in enumerate(self.parts)]
        return replace(self, sums=torch.stack(weighted).sum(dim=0))


def digit_count(interval: Interval, offset: bool) -> int:
    """How many int8 digits the codes of an interval take; ``offset`` allows an offset where it saves a digit."""
    if offset and offset_for(interval) is not None:
        return 1
    if offset and interval.high - interval.low < 1 << 16:
        return 2
    count, low, high = 1, interval.low, interval.high
    while not (low >= -128 and high <= 127):
        count, low, high = count + 1, (low + 128) >> 8, (high + 128) >> 8
    return count


def balanced_digits(codes: Tensor, interval: Interval, offset: bool) -> Digits:
    """``codes`` in int8 digits; ``offset`` allows an offset where it saves a digit."""
    found = offset_for(interval)
    if found == 0:
        return Digits((codes.to(torch.int8),))
    if found == 128 and offset and codes.dtype == torch.uint8:
        return Digits(((codes ^ 128).view(torch.int8),), found)
    if found is not None and offset:
        return Digits(((codes.to(torch.int32) - found).to(torch.int8),), found)
    if offset and interval.high - interval.low < 1 << 16:
        # The low byte less 128, and the high byte: 16 bits would take three balanced digits.
        base = 0 if _SHORT.contains(interval) else interval.low + (1 << 15)
        short = (codes.to(torch.int64) - base if base else codes).to(torch.int16)
        return Digits(((short.to(torch.uint8) ^ 128).view(torch.int8), (short >> 8).to(torch.int8)), base + 128)
    parts: list[Tensor] = []
    wide = codes.to(torch.int32 if interval.magnitude < 1 << 30 else torch.int64)
    low, high = interval.low, interval.high
    while not (low >= -128 and high <= 127):
        wide = wide + 128
        parts.append(((wide & 255) - 128).to(torch.int8))
        wide = wide >> 8
        low, high = (low + 128) >> 8, (high + 128) >> 8
    return Digits((*parts, wide.to(torch.int8)))


def as_matrix(tensor: Tensor, names: tuple[str, ...], rows: tuple[str, ...], summed: tuple[str, ...]) -> Tensor:
    """[rows, summed] of a tensor whose axes are ``names``."""
    order = [names.index(each) for each in (*rows, *summed)]
    sizes = [math.prod(tensor.shape[names.index(each)] for each in group) for group in (rows, summed)]
    return tensor.permute(order).reshape(sizes)


def multiply(left: Digits, right: Digits) -> Held:
    """Sums over the last axis of both: [rows of left, rows of right], as parts in int32.

    ``right`` is read column by column, the fast layout; it has its sums, and no offset.
    """
    depth = left.parts[0].shape[1]
    parts: list[Tensor] = []
    shifts: list[int] = []
    for start in range(0, depth, LONGEST):
        for low, a in enumerate(left.parts):
            for high, b in enumerate(right.parts):
                parts.append(_int_mm(a[:, start : start + LONGEST], b[:, start : start + LONGEST]))
                shifts.append(8 * (low + high))
    if left.offset:
        assert right.sums is not None
        parts.append((right.sums * left.offset)[None, :].expand(parts[0].shape))
        shifts.append(0)
    return Held(tuple(parts), tuple(shifts))


def _int_mm(left: Tensor, right: Tensor) -> Tensor:
    """int8 [M, K] times int8 [N, K] in int32; padded to what the library takes."""
    rows, depth = left.shape
    columns = right.shape[0]
    if left.is_meta:
        return left.new_empty((rows, columns), dtype=torch.int32)
    more = -depth % 16
    first, second = _padded(left, max(32 - rows, 0), more), _padded(right, -columns % 16, more)
    return torch._int_mm(first, second.t())[:rows, :columns]  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


def _padded(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """Contiguous, with so many more rows and columns of zeros."""
    return torch.nn.functional.pad(matrix, (0, columns, 0, rows)) if rows or columns else matrix.contiguous()


def restore(held: Held, names: tuple[str, ...], result: tuple[str, ...], extents: dict[str, int]) -> Held:
    """[rows, columns], whose axes are ``names`` in order, as the result's axes, by views alone."""
    sizes = [extents[each] for each in names]
    order = [names.index(each) for each in result]
    return Held(tuple(each.reshape(sizes).permute(order) for each in held.parts), held.shifts)
