"""scatter: the import of writes into a slice, which PyTorch turns into functions of the whole tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatewright.ir.operator import Operator, register
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.parameter_reshape import reshaped_parameter
from gatewright.ir.ops.parameter_slice import ParameterSlice
from gatewright.ir.ops.slice import Slice
from gatewright.ir.types import Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall


@register
@dataclass(frozen=True, slots=True)
class Scatter(Operator):
    """A tensor with a slice replaced. Never in a graph: the import makes it slices and a ``concat``."""

    name = "scatter"
    aten = ("slice_scatter.default", "select_scatter.default")

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        value, piece = call.value("self"), call.value("src")
        rank = len(call.results[0])
        if not call.is_stream(value):
            value = call.per_sample(value, rank)
        axis = int(call["dim"]) % rank - 1
        shape = call.result_shape()
        if axis < 0:
            if piece.shape == shape and call.get("step") == 1:
                return piece
            raise call.mixes_samples()
        if call.target == "select_scatter.default":
            start = int(call["index"]) % shape[axis]
            stop, step = start + 1, 1
        else:
            given: slice[Any, Any, Any] = slice(call["start"], call["end"], call["step"])
            start, stop, step = given.indices(shape[axis])
        if step != 1:
            raise call.refused("every other element is written", help="write a contiguous range")
        row = (*shape[:axis], stop - start, *shape[axis + 1 :])
        if call.is_stream(piece):
            piece = call.builder.reshape(piece, row)
        else:
            piece = call.per_sample(piece, rank - (call.target == "select_scatter.default"))
            piece = reshaped_parameter(call, piece, row)
        parts = [(0, start), (stop, shape[axis])]
        part_of = Slice if call.is_stream(value) else ParameterSlice
        kept = [call.builder.add(part_of(axis, first, last), value) if first < last else None for first, last in parts]
        joined = [each for each in (kept[0], piece, kept[1]) if each is not None]
        return call.builder.add(Concat(axis), *joined)
