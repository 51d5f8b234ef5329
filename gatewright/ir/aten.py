"""What an operator sees when PyTorch's call to it is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gatewright.diagnostics import Location, error
from gatewright.ir.builder import Builder
from gatewright.ir.types import Value


@dataclass(frozen=True, slots=True)
class AtenCall:
    """One ATen call: ``target`` (``linear.default``) and its ``arguments`` by schema name, defaults
    filled in; tensors are :class:`Value`, all else plain Python.

    Streams carry the batch as their leading axis in PyTorch and have no batch axis here; constants
    have all their axes in both.
    """

    target: str
    arguments: dict[str, Any]
    builder: Builder
    location: Location

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument that the overload may not have."""
        return self.arguments.get(name, default)

    def value(self, name: str) -> Value:
        """A tensor argument; a Python number becomes a constant."""
        found = self.arguments[name]
        if isinstance(found, Value):
            return found
        return self.builder.parameter("", np.asarray(float(found)), trainable=False)

    def is_stream(self, value: Value) -> bool:
        """Whether the value depends on a model input (and so has a batch axis in PyTorch)."""
        return self.builder.is_stream(value)

    def rank(self, value: Value) -> int:
        """The tensor's rank in PyTorch, batch included."""
        return len(value.shape) + self.is_stream(value)

    def axis(self, value: Value, dimension: int) -> int:
        """PyTorch's ``dimension`` of ``value`` as a per-sample axis; the batch axis is refused."""
        rank = self.rank(value)
        positive = dimension + rank if dimension < 0 else dimension
        if not self.is_stream(value):
            return positive
        if positive == 0:
            raise error(
                "GW0104",
                f"aten.{self.target} works across the batch axis",
                location=self.location,
                note="hardware sees one sample at a time: axis 0 is the batch and cannot be mixed or moved",
                help="keep axis 0 as it is, for example with x.flatten(1) or x.mean(dim=1)",
            )
        return positive - 1

    def axes(self, value: Value, dimensions: list[int] | int | None) -> tuple[int, ...]:
        """Several dimensions as sorted per-sample axes; None or an empty list means all of a constant's."""
        if dimensions is None or dimensions == []:
            dimensions = list(range(self.rank(value)))
        listed = [dimensions] if isinstance(dimensions, int) else dimensions
        return tuple(sorted(self.axis(value, each) for each in listed))
