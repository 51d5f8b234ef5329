"""Exact integer intervals, and exact integer arrays at any width.

An :class:`Interval` bounds the integer codes of a value: every code lies in ``low..high`` and is a
multiple of ``step``. All operations but casts are exact because every result interval covers every
possible result (interval arithmetic, Moore 1966).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntegerArray = NDArray[Any]
"""An integer array: int64 where the interval fits, otherwise an object array of Python integers."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The integers ``low..high`` that are multiples of ``step`` (0 for the set {0})."""

    low: int
    high: int
    step: int = 1

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"empty interval: low {self.low} exceeds high {self.high}")

    @staticmethod
    def of(values: Iterable[int] | IntegerArray) -> Interval:
        """The smallest interval that holds all ``values`` (at least one)."""
        array: IntegerArray = np.asarray(values) if hasattr(values, "dtype") else np.array(list(values), dtype=object)
        low, high = int(array.min()), int(array.max())
        if array.dtype == object:
            exact: list[int] = array.ravel().tolist()
            step = gcd(*(int(each) for each in exact))
        else:
            step = int(np.gcd.reduce(array.ravel().astype(np.int64)))
        return Interval(low, high, abs(step))

    @staticmethod
    def constant(value: int) -> Interval:
        """The interval of a single value."""
        return Interval(value, value, abs(value))

    @property
    def signed(self) -> bool:
        """Whether a negative code is possible."""
        return self.low < 0

    @property
    def width(self) -> int:
        """The bits of the narrowest two's complement (or unsigned) code, at least one."""
        if self.low < 0:
            return max(self.high.bit_length(), (-self.low - 1).bit_length()) + 1
        return max(self.high.bit_length(), 1)

    @property
    def magnitude(self) -> int:
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))

    @property
    def is_constant(self) -> bool:
        """Whether only one value is possible."""
        return self.low == self.high

    def contains(self, other: Interval) -> bool:
        """Whether every value of ``other`` lies in this interval's range."""
        return self.low <= other.low and other.high <= self.high

    def union(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high), gcd(self.step, other.step))

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high, gcd(self.step, other.step))

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low, gcd(self.step, other.step))

    def __mul__(self, other: Interval) -> Interval:
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(corners), max(corners), self.step * other.step)

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low, self.step)

    def scaled(self, count: int) -> Interval:
        """The interval of a sum of ``count`` (at least 0) values of this interval."""
        return Interval(self.low * count, self.high * count, self.step if count else 0)

    def __str__(self) -> str:
        return f"[{self.low}, {self.high}]" + (f" step {self.step}" if self.step > 1 else "")


INT64_BITS = 62
"""Intervals up to this width are held in int64 with headroom for one addition."""


def fits_int64(*intervals: Interval) -> bool:
    """Whether codes of all ``intervals`` can be held in int64."""
    return all(each.magnitude.bit_length() <= INT64_BITS for each in intervals)


def widen(array: IntegerArray, *intervals: Interval) -> IntegerArray:
    """``array`` in a dtype that holds all ``intervals`` exactly: int64, else Python integers."""
    if fits_int64(*intervals):
        return array if array.dtype == np.int64 else array.astype(np.int64)
    return array if array.dtype == object else array.astype(object)
