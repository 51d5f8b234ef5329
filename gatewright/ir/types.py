"""Values of the graph and their types."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewright.diagnostics import Location
from gatewright.ir.formats import Exact, Fixed, Format, Real
from gatewright.ir.intervals import Interval

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """What a value is: its shape per sample, its format, and the exact interval of its codes.

    ``interval`` is None exactly where the format is ``Real``.
    """

    shape: Shape
    format: Format = field(default_factory=Real)
    interval: Interval | None = None

    @property
    def is_real(self) -> bool:
        """Whether the value has no integer code yet."""
        return isinstance(self.format, Real)

    def __str__(self) -> str:
        dimensions = ", ".join(map(str, self.shape))
        interval = f" {self.interval}" if self.interval is not None else ""
        return f"[{dimensions}] {self.format}{interval}"


@dataclass(frozen=True, slots=True)
class Value:
    """One SSA value: a name unique in its graph, a type, and the user's source that made it."""

    name: str
    type: Type
    location: Location = field(default_factory=Location, compare=False)

    @property
    def shape(self) -> Shape:
        """The shape per sample."""
        return self.type.shape

    @property
    def format(self) -> Format:
        """The number format."""
        return self.type.format

    @property
    def interval(self) -> Interval:
        """The interval of the codes; the value must not be real."""
        if self.type.interval is None:
            raise ValueError(f"%{self.name} is real and has no interval")
        return self.type.interval

    @property
    def size(self) -> int:
        """Elements per sample."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def frac(self) -> int:
        """Fraction bits: a code's least significant bit weighs 2^-frac."""
        return fraction_bits(self.format)

    @property
    def signed(self) -> bool:
        """Whether the code on a wire is signed."""
        return self.interval.signed

    @property
    def width(self) -> int:
        """Bits of an element on a wire: the narrowest code for the interval."""
        return self.interval.width

    def retyped(self, type: Type) -> Value:
        """The same value with another type."""
        return replace(self, type=type)


def fraction_bits(format: Format) -> int:
    """The fraction bits of a fixed or exact format."""
    if isinstance(format, Fixed) and format.frac is not None:
        return format.frac
    if isinstance(format, Exact):
        return format.frac
    raise ValueError(f"{format} has no common fraction")


class Tensor:
    """An immutable array that compares and hashes by its content (float64, int64 or Python integers)."""

    __slots__ = ("_digest", "array")

    def __init__(self, array: NDArray[Any]) -> None:
        kept = np.array(array)
        if kept.dtype != object:
            kept = kept.astype(np.float64 if kept.dtype.kind == "f" else np.int64)
        kept.setflags(write=False)
        self.array: NDArray[Any] = kept
        self._digest: str = ""

    @property
    def digest(self) -> str:
        """A hash of shape, type and content; -0.0 and 0.0 differ."""
        if not self._digest:
            head = f"{self.array.dtype}{self.array.shape}".encode()
            body = repr(self.array.tolist()).encode() if self.array.dtype == object else self.array.tobytes()
            self._digest = hashlib.sha256(head + body).hexdigest()
        return self._digest

    @property
    def shape(self) -> Shape:
        """The array's shape."""
        return tuple(self.array.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tensor) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Tensor({self.array.dtype}, {self.shape})"
