"""Views: how the elements of one value are found in another that holds them in a different order.

A view describes permutations and reshapes without moving anything: the carried value's elements, in
row-major order, have the factors ``sizes``; every axis of the seen value is a run of these factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.types import Shape


@dataclass(frozen=True, slots=True)
class View:
    """The seen value's axis ``k`` has, in row-major order, the factors ``groups[k]`` of the carried value.

    ``sizes`` are the carried value's factors, none of them 1; a group may be empty (an axis of extent 1).
    """

    sizes: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]

    @staticmethod
    def plain(shape: Shape) -> View:
        """The view of a value as itself."""
        groups: list[tuple[int, ...]] = []
        sizes: list[int] = []
        for extent in shape:
            groups.append((len(sizes),) if extent > 1 else ())
            sizes += [extent] if extent > 1 else []
        return View(tuple(sizes), tuple(groups))

    @property
    def shape(self) -> Shape:
        """The shape of the seen value."""
        return tuple(prod(self.sizes[factor] for factor in group) for group in self.groups)

    @property
    def order(self) -> tuple[int, ...]:
        """The carried factors in the seen value's row-major order."""
        return tuple(factor for group in self.groups for factor in group)

    @property
    def is_plain(self) -> bool:
        """Whether both values have their elements in one order."""
        return self.order == tuple(range(len(self.sizes)))

    def permuted(self, order: tuple[int, ...]) -> View:
        """The view after a permutation of the seen value's axes."""
        return View(self.sizes, tuple(self.groups[axis] for axis in order))

    def split(self, factor: int, inner: int) -> View:
        """The same view with one factor as two, the second of size ``inner``."""
        sizes = (*self.sizes[:factor], self.sizes[factor] // inner, inner, *self.sizes[factor + 1 :])

        def renamed(group: tuple[int, ...]) -> tuple[int, ...]:
            found: list[int] = []
            for each in group:
                found += [each, each + 1] if each == factor else [each + (each > factor)]
            return tuple(found)

        return View(sizes, tuple(renamed(group) for group in self.groups))

    def reshaped(self, shape: Shape) -> View | None:
        """The view after a reshape of the seen value; None where the shape cuts across the factors."""
        view = self
        groups: list[tuple[int, ...]] = []
        position = 0
        for extent in shape:
            group: list[int] = []
            left = extent
            while left > 1:
                order = view.order
                factor = order[position]
                size = view.sizes[factor]
                if left % size == 0:
                    left //= size
                elif size % left == 0:
                    split = view.split(factor, size // left)
                    groups = [tuple(each + (each > factor) for each in done) for done in groups]
                    group = [each + (each > factor) for each in group]
                    view, left = split, 1
                else:
                    return None
                group.append(view.order[position])
                position += 1
            groups.append(tuple(group))
        return View(view.sizes, tuple(groups))

    def seen(self, carried: IntegerArray) -> IntegerArray:
        """The seen value's array (batch leading) from the carried one's."""
        batch = carried.shape[0]
        factors = carried.reshape(batch, *self.sizes)
        return factors.transpose(0, *(factor + 1 for factor in self.order)).reshape(batch, *self.shape)

    def carried(self, seen: IntegerArray) -> IntegerArray:
        """The carried value's elements [batch, *sizes] from the seen one's array (batch leading)."""
        batch = seen.shape[0]
        factors = seen.reshape(batch, *(self.sizes[factor] for factor in self.order))
        return factors.transpose(0, *(int(axis) + 1 for axis in np.argsort(self.order)))

    def axis_groups(self) -> tuple[int, ...]:
        """For every carried factor, the seen axis that it belongs to."""
        owner = {factor: axis for axis, group in enumerate(self.groups) for factor in group}
        return tuple(owner[factor] for factor in range(len(self.sizes)))
