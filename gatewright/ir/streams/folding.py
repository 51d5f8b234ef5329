"""Folding: how many multipliers and lanes every stage gets so that it meets the interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gatewright.diagnostics import Collector, Diagnostic, diagnostic
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.ops.window import Window
from gatewright.ir.streams.forms import MatrixForm, Tile, absorbed_windows, constants_of, matrix_form
from gatewright.ir.streams.pipelining import FREE
from gatewright.ir.types import Value

ANY_LANES = 0
"""The lanes of an input port, which takes those of its reader."""


def tile_cost(form: MatrixForm, tile: Tile, lanes_in: int) -> float:
    """Estimated LUTs: multipliers, adder trees, accumulators, input memory, and adapting ``lanes_in``."""
    width_in, width_weight = form.stream.width, form.constant.width
    product = width_in + width_weight
    accumulator = product + max(form.inputs - 1, 1).bit_length()
    multipliers = tile.multipliers
    cost = multipliers * (40.0 + 0.25 * product)
    cost += tile.outputs * (tile.inputs - 1) * (product + 1) + tile.outputs * (accumulator + 4)
    cost += tile.inputs * width_in * 0.5
    if form.window is not None:
        cost += window_cost(form, tile)
    if lanes_in not in (ANY_LANES, tile.lanes):
        more, fewer = max(lanes_in, tile.lanes), min(lanes_in, tile.lanes)
        cost += 12 + more * width_in * (1.0 if more % fewer == 0 else 3.0)
    return cost


def reader_cost(value: Value, users: Mapping[Value, list[Node]]) -> float:
    """Estimated LUTs per lane of the maps that read ``value``."""
    cost = 0.0
    for reader in users[value]:
        if isinstance(reader.op, Reshape):
            cost += reader_cost(reader.output, users)
        if isinstance(reader.op, Map):
            for node in reader.op.expression.nodes:
                if node.op not in FREE:
                    cost += node.interval.width * (3.0 if node.op in ("shlv", "shlw", "shrv") else 0.5)
    return cost


def window_cost(form: MatrixForm, tile: Tile) -> float:
    """Estimated LUTs of the logic around the line memories: counters, masks, and the address generator."""
    assert form.window is not None
    geometry = form.window.geometry
    word = tile.channels * form.stream.width
    beside = geometry.tap_lanes(tile.parallel)
    cost = 25.0 * sum(tile.parallel) + (0.5 * word * beside if geometry.is_padded and beside > 1 else 0.0)
    serial = [axis for axis, side in zip((geometry.rows, geometry.columns), tile.parallel, strict=True) if not side]
    if any(not axis.is_plain for axis in serial) or form.blocks(tile) > 1:
        cost += 130.0 + 0.5 * word * beside
    return cost


@dataclass(frozen=True, slots=True)
class Folding:
    """The chosen tile of every contraction, by the value that it computes, and the interval it aims at.

    ``input_lanes`` gives the lanes of each input port.
    """

    interval: int
    tiles: Mapping[Value, Tile]
    forms: Mapping[Value, MatrixForm]
    input_lanes: Mapping[Value, int]

    @property
    def multipliers(self) -> int:
        """Multipliers of the whole design."""
        return sum(tile.multipliers for tile in self.tiles.values())


def serial_interval(graph: Graph) -> int:
    """The interval of the smallest design: one multiplier a contraction, one element a beat."""
    constants = constants_of(graph)
    producers = graph.producer()
    longest = max((value.size for value in graph.values() if value not in constants), default=1)
    for node in graph.nodes:
        if isinstance(node.op, Contract):
            form = matrix_form(node, constants, producers)
            longest = max(longest, form.cycles(form.serial_tile))
    return longest


def fastest_interval(graph: Graph) -> int:
    """The interval with every multiplier of a row in parallel: one row a cycle."""
    constants, producers = constants_of(graph), graph.producer()
    return max(
        (
            fastest_cycles(matrix_form(node, constants, producers))
            for node in graph.nodes
            if isinstance(node.op, Contract)
        ),
        default=1,
    )


def fastest_cycles(form: MatrixForm) -> int:
    """Cycles per sample with every multiplier of a product in parallel, and all groups of a window."""
    if form.window is None:
        return form.products
    geometry = form.window.geometry
    parallel = geometry.choices()[-1]
    words = 1 if form.is_depthwise else form.groups
    return max(form.rows * words * geometry.tap_beats(parallel), geometry.passing_beats(parallel, words))


def fold(graph: Graph, interval: int) -> Folding:
    """Choose the cheapest tiles that meet ``interval`` cycles between samples.

    Raises GW0703 with the best possible interval where it cannot be met.
    """
    constants, producers = constants_of(graph), graph.producer()
    windows = absorbed_windows(graph, constants)
    users = graph.users()
    problems = Collector()
    tiles: dict[Value, Tile] = {}
    forms: dict[Value, MatrixForm] = {}
    lanes: dict[Value, int] = dict.fromkeys(graph.inputs, ANY_LANES)
    for node in graph.nodes:
        if node.output in constants:
            continue
        sources = [lanes[value] for value in node.inputs if value in lanes]
        if node.output in windows or (isinstance(node.op, Reshape) and node.inputs[0] in windows):
            lanes[node.output] = sources[0]
            windows |= {node.output: node}
            continue
        if not isinstance(node.op, Contract):
            lanes[node.output] = _follow(node, interval, sources)
            continue
        form = matrix_form(node, constants, producers)
        choices = list(form.tiles(interval))
        if not choices:
            problems.add(_too_fast(node, form, interval))
            continue
        forms[node.output] = form
        offered = max(sources, default=ANY_LANES)
        after = reader_cost(node.output, users)
        tiles[node.output] = min(
            choices, key=lambda tile: (tile_cost(form, tile, offered) + after * tile.outputs, tile.inputs)
        )
        lanes[node.output] = tiles[node.output].outputs
    problems.raise_if_any()
    input_lanes = {value: _input_lanes(graph, value, interval, tiles) for value in graph.inputs}
    return Folding(interval, tiles, forms, input_lanes)


def _follow(node: Node, interval: int, sources: list[int]) -> int:
    """Lanes of a value that is no contraction: its source's, or as many as the interval needs."""
    if isinstance(node.op, Reshape) and sources and sources[0] == ANY_LANES:
        return ANY_LANES
    known = [each for each in sources if each != ANY_LANES]
    return max(minimum_lanes(node.output, interval), min(known, default=1))


def _too_fast(node: Node, form: MatrixForm, interval: int) -> Diagnostic:
    least = fastest_cycles(form)
    return diagnostic(
        "GW0703",
        f"interval {interval} cannot be met: {node.output.name} takes at least {least} cycles",
        location=node.location,
        note=f"{least} rows a sample, one row a cycle with every multiplier in parallel",
        help=f"ask for interval={least} or more",
    )


def _input_lanes(graph: Graph, value: Value, interval: int, tiles: Mapping[Value, Tile]) -> int:
    """The lanes of an input port: those of the contractions that read it, and enough for the interval."""
    elements = value.shape[-1] if value.shape else 1
    wanted = minimum_lanes(value, interval)
    same = {value}
    for node in graph.nodes:
        if isinstance(node.op, (Reshape, Window)) and node.inputs[0] in same:
            same.add(node.output)
        elif node.output in tiles and any(each in same for each in node.inputs):
            wanted = max(wanted, tiles[node.output].lanes)
    return min(wanted, elements)


def minimum_lanes(value: Value, interval: int) -> int:
    """The fewest lanes with which ``value`` passes in ``interval`` beats; all of a row if that is not enough."""
    elements = value.shape[-1] if value.shape else 1
    rows = max(value.size // max(elements, 1), 1)
    beats = interval // rows
    return elements if beats < 1 else -(-elements // min(beats, elements))
