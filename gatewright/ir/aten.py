"""What an operator sees when PyTorch's call to it is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gatewright.diagnostics import GatewrightError, Location, error
from gatewright.ir.builder import Builder
from gatewright.ir.types import Shape, Value


@dataclass(frozen=True, slots=True)
class AtenCall:
    """One ATen call: ``target`` (``linear.default``) and its ``arguments`` by schema name, defaults
    filled in; tensors are :class:`Value`, all else plain Python.

    Streams carry the batch as their leading axis in PyTorch and have no batch axis here; constants
    have all their axes in both. ``results`` are the result shapes in PyTorch, batch included, and
    ``batch`` is the example's batch size. ``hint`` is the name that the result will have.
    """

    target: str
    arguments: dict[str, Any]
    builder: Builder
    location: Location
    results: tuple[Shape, ...] = ()
    batch: int = 1
    hint: str = ""

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
        return self.scalar(float(found))

    def scalar(self, number: float) -> Value:
        """A constant without axes."""
        return self.builder.parameter("", np.asarray(float(number)), trainable=False)

    def named(self, part: str) -> str:
        """A name for a part of the result, so that the result itself keeps the plain one."""
        return f"{self.hint}.{part}" if self.hint else part

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
            raise self.mixes_samples()
        return positive - 1

    def axes(self, value: Value, dimensions: list[int] | int | None) -> tuple[int, ...]:
        """Several dimensions as sorted per-sample axes; None or an empty list means all."""
        if dimensions is None or dimensions == []:
            dimensions = list(range(self.rank(value)))
        listed = [dimensions] if isinstance(dimensions, int) else dimensions
        return tuple(sorted(self.axis(value, each) for each in listed))

    def mixes_samples(self) -> GatewrightError:
        """The error GW0104 of a call that works across the batch axis."""
        return error(
            "GW0104",
            f"aten.{self.target} works across the batch axis",
            location=self.location,
            note="hardware sees one sample at a time: axis 0 is the batch and cannot be mixed or moved",
            help="keep axis 0 as it is, for example with x.flatten(1) or x.mean(dim=1)",
        )

    def refused(self, message: str, *, note: str = "", help: str = "") -> GatewrightError:
        """The error GW0107 of a call whose operator is known but not in this form."""
        notes = (note,) if note else ()
        return error("GW0107", f"aten.{self.target}: {message}", location=self.location, note=notes, help=help)

    def result_shape(self, index: int = 0) -> Shape:
        """The per-sample shape of a stream result; GW0104 where its first axis is not the batch."""
        shape = self.results[index]
        if not shape or shape[0] != self.batch:
            raise self.mixes_samples()
        return shape[1:]

    def broadcast(self, *names: str) -> list[Value]:
        """Tensor arguments of an elementwise call, so that their per-sample shapes broadcast as the
        PyTorch tensors do. At least one is a stream; GW0104 where a broadcast touches the batch axis.
        """
        return self.broadcast_values(*(self.value(name) for name in names))

    def broadcast_values(self, *values: Value) -> list[Value]:
        """The same for values."""
        rank = max(self.rank(value) for value in values)
        streams = [value for value in values if self.is_stream(value)]
        if any(self.rank(value) != rank for value in streams):
            raise self.mixes_samples()
        return [value if self.is_stream(value) else self.per_sample(value, rank) for value in values]

    def per_sample(self, value: Value, rank: int) -> Value:
        """A constant that meets a stream of ``rank`` axes in PyTorch, without the batch axis it may have."""
        if len(value.shape) < rank:
            return value
        array = self.builder.constant_of(value)
        leading = value.shape[0]
        if leading != 1:
            # A constant that was expanded over the batch holds the same for every sample.
            if array is None or leading != self.batch or bool((array != array[:1]).any()):
                raise self.mixes_samples()
            return self.builder.parameter("", array[0], trainable=False)
        from gatewright.ir.ops.parameter_reshape import reshaped_parameter

        return reshaped_parameter(self, value, value.shape[1:])
