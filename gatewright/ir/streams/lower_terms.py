"""Contractions with binary or ternary weights as sums of terms (see :mod:`gatewright.ir.streams.terms`)."""

from __future__ import annotations

from gatewright.ir.formats import Exact
from gatewright.ir.graph import Node
from gatewright.ir.intervals import Interval
from gatewright.ir.streams.forms import MatrixForm, Tile
from gatewright.ir.streams.lower import Lowering
from gatewright.ir.streams.network import Channel, Layout
from gatewright.ir.streams.terms import PairSums, TermContractUnit, inputs_a_term, plan_terms, summed_interval
from gatewright.ir.types import Tensor, Type, Value


def lower_terms(lowering: Lowering, node: Node, form: MatrixForm, tile: Tile, channel: Channel) -> None:
    """Emit the units of a contraction: ``channel`` brings its inputs as integers, ``term_lanes`` a beat."""
    interval, weights = summed_interval(form.stream), form.constant.format
    inputs = inputs_a_term(weights)
    if inputs == 2:
        channel = _pair_sums(lowering, form, channel, interval)
    channel = lowering.adapt(channel, tile.inputs // inputs)
    if channel.layout.beats_per_row > 1:
        channel = lowering.replay(channel, channel.layout.beats_per_row, form.blocks(tile))
    output = lowering.channel(node.output, Layout(form.products, form.outputs, tile.outputs))
    plan = plan_terms(tile.inputs // inputs, output.value.width, lowering.target)
    unit = TermContractUnit(
        lowering.fresh(f"{output.name}_contract"),
        (channel,),
        (output,),
        node.location,
        Tensor(form.weights),
        form.constant.interval,
        tile.outputs,
        tile.inputs,
        plan.registers,
        weight_format=weights,
        term_width=interval.width + inputs - 1,
        signed=interval.signed,
        segment=plan.segment,
    )
    lowering.produced(node.output, lowering.emit(unit)[0])


def _pair_sums(lowering: Lowering, form: MatrixForm, channel: Channel, interval: Interval) -> Channel:
    """The stream of sums and differences of neighbouring lanes."""
    name = lowering.fresh(f"{channel.name}_pairs")
    bits = 2 * (interval.width + 1)
    shape = (form.products, form.inputs // 2)
    value = Value(name, Type(shape, Exact(0), Interval(0, (1 << bits) - 1)), channel.value.location)
    layout = channel.layout
    output = Channel(name, value, Layout(layout.rows, layout.elements // 2, layout.lanes // 2))
    unit = PairSums(lowering.fresh(f"{name}_sums"), (channel,), (output,), channel.value.location)
    return lowering.emit(unit)[0]
