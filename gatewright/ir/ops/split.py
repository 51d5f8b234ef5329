"""split: the import of calls that return several slices; each slice is a node of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.operator import Operator, register
from gatewright.ir.ops.slice import Slice
from gatewright.ir.types import Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall


@register
@dataclass(frozen=True, slots=True)
class Split(Operator):
    """Consecutive pieces along an axis. Never in a graph: the import makes it slices."""

    name = "split"
    aten = (
        "split.Tensor",
        "split_with_sizes.default",
        "split.sizes",
        "chunk.default",
        "tensor_split.sections",
        "unbind.int",
    )

    @classmethod
    def from_aten(cls, call: AtenCall) -> tuple[Value, ...]:
        value = call.value("self")
        axis = call.axis(value, call["dim"])
        pieces: list[Value] = []
        start = 0
        for index in range(len(call.results)):
            shape = call.result_shape(index)
            size = 1 if call.target == "unbind.int" else shape[axis]
            piece = call.builder.add(Slice(axis, start, start + size), value)
            pieces.append(call.builder.reshape(piece, shape))
            start += size
        return tuple(pieces)
