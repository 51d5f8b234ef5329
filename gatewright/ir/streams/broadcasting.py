"""How a smaller operand of a map is repeated so that it has the elements of the result, beat by beat."""

from __future__ import annotations

from math import prod

import numpy as np

from gatewright.ir.streams.lower import Lowering, natural_rows
from gatewright.ir.streams.network import Channel, Layout
from gatewright.ir.streams.units import RewireUnit
from gatewright.ir.types import Shape, Value


def broadcast(lowering: Lowering, value: Value, shape: Shape, layout: Layout) -> Channel:
    """The stream of ``value`` repeated so that its beats go with those of a result of ``shape`` in ``layout``.

    Where a beat is part of a row of a single element, this one is sent: the map gives it to all lanes.
    """
    aligned = (1,) * (len(shape) - len(value.shape)) + value.shape
    rows, elements = natural_rows(value)
    target = shape[-1] if shape else 1
    axis = len(shape) - 1
    if layout.elements > target:
        axis = max(each for each in range(len(shape)) if prod(shape[each:]) == layout.elements)
        channel = _beside(lowering, value, aligned, shape, axis, layout)
    elif elements == 1 and target > 1:
        channel = lowering.replay(lowering.take(value, rows, 1, 1), 1, layout.beats_per_row)
    else:
        channel = lowering.take(value, rows, elements, layout.lanes)
    window = layout.beats_per_row
    for each in range(axis - 1, -1, -1):
        if aligned[each] == 1 and shape[each] > 1:
            channel = lowering.replay(channel, window, shape[each])
        window *= shape[each]
    return channel


def _beside(lowering: Lowering, value: Value, aligned: Shape, shape: Shape, axis: int, layout: Layout) -> Channel:
    """The stream of ``value`` for beats of several rows of the result, which lie along ``axis``: repeated by wiring."""
    count = layout.lanes // prod(shape[axis + 1 :])
    own_count, own = (count if aligned[axis] > 1 else 1), prod(aligned[axis + 1 :])
    channel = lowering.take(value, prod(aligned[:axis]), aligned[axis] * own, own_count * own)
    if own_count * own < layout.lanes:
        lanes = np.arange(own_count * own).reshape(own_count, *aligned[axis + 1 :])
        every = np.broadcast_to(lanes, (count, *shape[axis + 1 :])).ravel()
        per_row = -(-aligned[axis] // own_count)
        wide = Layout(channel.layout.rows, per_row * layout.lanes, layout.lanes)
        output = lowering.channel(value, wide, f"{channel.name}_repeated")
        name = lowering.fresh(f"{output.name}_rewire")
        wires = tuple((0, int(each)) for each in every)
        channel = lowering.emit(RewireUnit(name, (channel,), (output,), value.location, wires))[0]
    if aligned[axis] == 1 and shape[axis] > 1:
        channel = lowering.replay(channel, 1, layout.beats_per_row)
    return channel
