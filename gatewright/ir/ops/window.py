"""window: the neighbourhood of every output position of a sliding kernel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gatewright.ir.intervals import IntegerArray, Interval, fits_int64
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.spatial import Pairs, positions
from gatewright.ir.types import Shape, Type, Value


@register
@dataclass(frozen=True, slots=True)
class Window(Operator):
    """From ``[*spatial, channels]`` to ``[*positions, *kernel, channels]``.

    Per spatial axis: the ``kernel``'s extent, ``stride``, ``padding`` (before, after) and ``dilation``. Elements
    outside the operand have the code ``fill``.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    fill: int = 0

    name = "window"
    is_primitive = True

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @property
    def extents(self) -> tuple[int, ...]:
        """Elements that the kernel spans along each axis, dilation included."""
        return tuple((size - 1) * step + 1 for size, step in zip(self.kernel, self.dilation, strict=True))

    def positions(self, spatial: Shape) -> Shape:
        """How many output positions each axis has; raises GW0350 where the kernel does not fit."""
        return positions(self.name, spatial, self.kernel, self.stride, self.padding, self.dilation)

    def infer(self, *operands: Value) -> Type:
        (value,) = operands
        shape = (*self.positions(value.shape[:-1]), *self.kernel, value.shape[-1])
        is_padded = any(amounts != (0, 0) for amounts in self.padding)
        interval = value.interval.union(Interval.constant(self.fill)) if is_padded else value.interval
        return Type(shape, value.format, interval)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        amounts = ((0, 0), *self.padding, (0, 0))
        # A Python integer, so that no 64-bit one gets into an array of wider ones, nor a wider one into 64 bits.
        codes = arrays[0] if fits_int64(Interval.constant(self.fill)) else arrays[0].astype(object)
        padded = np.pad(codes, amounts, constant_values=np.array(self.fill, dtype=object))
        axes = tuple(range(1, self.rank + 1))
        every = np.lib.stride_tricks.sliding_window_view(padded, self.extents, axis=axes)
        strided = every[(slice(None), *(slice(None, None, step) for step in self.stride))]
        taps = strided[(..., *(slice(None, None, step) for step in self.dilation))]
        return np.moveaxis(taps, self.rank + 1, -1)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls((3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1)), ((5, 4, 3),), ("fixed<6,4>",))
        yield Sample(cls((3, 3), (2, 1), ((1, 1), (0, 1)), (1, 1)), ((6, 5, 2),), ("fixed<6,4>",))
        yield Sample(cls((2, 3), (1, 2), ((0, 2), (2, 1)), (2, 1), fill=-3), ((5, 7, 1),), ("fixed<5,4>",))
        yield Sample(cls((5,), (1,), ((2, 2),), (1,)), ((9, 2),), ("ufixed<5,4>",))
