"""Folding: how many multipliers and lanes every stage gets so that it meets the interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gatewright.diagnostics import Collector, Diagnostic, diagnostic
from gatewright.ir.decoding import is_plain
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.ops.window import Window
from gatewright.ir.streams.following import following, minimum_lanes
from gatewright.ir.streams.forms import MatrixForm, Tile, absorbed_windows, constants_of, matrix_form
from gatewright.ir.streams.geometry import Geometry
from gatewright.ir.streams.joint_folding import Choice, Step, adapter_cost, cheapest, solve
from gatewright.ir.streams.network import Layout
from gatewright.ir.streams.pipelining import FREE
from gatewright.ir.streams.terms import has_terms, inputs_a_term, summed_interval
from gatewright.ir.types import Value

ANY_LANES = 0
"""Lanes that cost no adapter."""
MOST_TILES = 3000
"""Contractions with up to so many tiles are searched in full; of larger ones those that no smaller one can replace."""
REPLAY = 40.0
"""Estimated LUTs of the counters of a replay buffer."""


def tile_cost(form: MatrixForm, tile: Tile, lanes_in: int) -> float:
    """Estimated LUTs: multipliers, adder trees, accumulators, input memory, and adapting ``lanes_in``."""
    if tile.term_lanes:
        return terms_cost(form, tile, lanes_in)
    width_in, width_weight = form.stream.width, form.constant.width
    product = width_in + width_weight
    each = 40.0 + 0.25 * product
    if has_terms(form.stream, form.constant):
        # The adders take the signs; what leaves inputs out, and a shift by their exponents, remains.
        product = summed_interval(form.stream).width
        each = 0.0 if is_plain(form.stream.format) else 1.3 * product
        each += 0.0 if inputs_a_term(form.constant.format) == 2 else 1.0 * product
    accumulator = product + max(form.inputs - 1, 1).bit_length()
    cost = tile.multipliers * each
    cost += tile.lanes_out * (tile.inputs - 1) * (product + 1) + tile.lanes_out * (accumulator + 4)
    cost += tile.inputs * max(tile.columns, 1) * width_in * 0.5
    lanes = form.lanes_in(tile)
    if form.window is not None:
        cost += window_cost(form, tile)
    if form.regroups(tile):
        assert form.window is not None
        cost += adapter_cost(form.window.lanes(tile.parallel, tile.channels), tile.inputs, width_in)
        cost += REPLAY if form.blocks(tile) > 1 else 0.0
    if lanes_in != ANY_LANES:
        cost += adapter_cost(lanes_in, lanes, width_in)
    return cost


def terms_cost(form: MatrixForm, tile: Tile, lanes_in: int) -> float:
    """Estimated LUTs of sums of terms: sums and differences of pairs, adders and an offset for each output."""
    interval, inputs = summed_interval(form.stream), inputs_a_term(form.constant.format)
    width = interval.width + inputs - 1
    total = interval.width + max(form.inputs - 1, 1).bit_length()
    cost = 0.0 if is_plain(form.stream.format) else 3.0 * tile.term_lanes * interval.width
    cost += tile.term_lanes * width if inputs == 2 else 0.0
    cost += tile.outputs * (tile.inputs // inputs * width + 2 * total)
    if tile.inputs > tile.term_lanes:
        cost += 10.0 + tile.inputs // tile.term_lanes
    cost += REPLAY if tile.inputs < form.inputs and form.blocks(tile) > 1 else 0.0
    if lanes_in != ANY_LANES:
        cost += adapter_cost(lanes_in, tile.term_lanes, form.stream.width)
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
    if tile.columns:
        return 50.0 + 0.5 * tile.columns * tile.inputs * max(tile.lane_groups, 1) * form.stream.width
    word = tile.channels * form.stream.width
    beside = geometry.tap_lanes(tile.parallel)
    cost = 25.0 * sum(tile.parallel) + (0.5 * word * beside if geometry.is_padded and beside > 1 else 0.0)
    serial = [axis for axis, side in zip((geometry.rows, geometry.columns), tile.parallel, strict=True) if not side]
    repeats = form.blocks(tile) > 1 and not form.regroups(tile)
    if any(not axis.is_plain for axis in serial) or repeats:
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
        return 1 if form.groups == 1 else form.products
    geometry = form.window.geometry
    if form.groups == 1 or form.is_depthwise:
        return geometry.column_cycles(geometry.columns.positions)
    parallel = geometry.choices()[-1]
    return max(form.products * geometry.tap_beats(parallel), geometry.passing_beats(parallel, form.groups))


def fold(graph: Graph, interval: int) -> Folding:
    """Choose the cheapest tiles that meet ``interval`` cycles between samples, adapters between layers included.

    Raises GW0703 with the best possible interval where it cannot be met.
    """
    steps, forms = folding_steps(graph, interval)
    chosen = solve(steps).chosen
    tiles = {value: tile for value in forms if (tile := chosen[value].tile) is not None}
    return Folding(interval, tiles, forms, {value: chosen[value].lanes_out for value in graph.inputs})


def folding_steps(graph: Graph, interval: int) -> tuple[list[Step], dict[Value, MatrixForm]]:
    """The choices of every input port and contraction, and what follows from them, in topological order; the forms."""
    constants, producers, users = constants_of(graph), graph.producer(), graph.users()
    windows = absorbed_windows(graph, constants)
    problems = Collector()
    forms: dict[Value, MatrixForm] = {}
    steps: list[Step] = []
    for node in graph.nodes:
        sources = tuple(value for value in node.inputs if value not in constants)
        if node.output in constants:
            continue
        if not isinstance(node.op, Contract):
            problem = _unreachable(node, windows, interval)
            if problem is not None:
                problems.add(problem)
            steps.append(Step(node.output, sources, follows=following(node, sources, windows, interval)))
            continue
        form = matrix_form(node, constants, producers)
        forms[node.output] = form
        choices = _choices(form, interval, reader_cost(node.output, users))
        if not choices:
            problems.add(_too_fast(node, form, interval))
        steps.append(Step(node.output, sources, choices))
    problems.raise_if_any()
    ports = [Step(value, choices=_port_choices(graph, value, interval, steps)) for value in graph.inputs]
    return [*ports, *steps], forms


def _choices(form: MatrixForm, interval: int, after: float) -> tuple[Choice, ...]:
    """The cheapest tile for every pair of lanes; ``after`` is what a lane of the result costs in its readers."""
    tiles = form.every_tile(interval) if form.tile_count <= MOST_TILES else form.tiles(interval)
    return cheapest(
        Choice(
            form.lanes_in(tile),
            tile.lanes_out,
            tile_cost(form, tile, ANY_LANES) + after * tile.lanes_out,
            tile,
        )
        for tile in sorted(tiles, key=lambda tile: tile.inputs)
    )


def _port_choices(graph: Graph, value: Value, interval: int, steps: Sequence[Step]) -> tuple[Choice, ...]:
    """The lanes of an input port: as few as will do, or those that a contraction behind it reads."""
    elements = value.shape[-1] if value.shape else 1
    least = minimum_lanes(value, interval)
    same, lanes = {value}, {least}
    for node in graph.nodes:
        if isinstance(node.op, (Reshape, Window)) and node.inputs[0] in same:
            same.add(node.output)
    for step in steps:
        if any(source in same for source in step.sources):
            lanes |= {choice.lanes_in for choice in step.choices if choice.lanes_in > least}
    # Several rows a beat only where the interval or a reader asks for whole ones.
    taken = {
        Layout.of(value.shape, each).lanes if least > elements or each % elements == 0 else min(each, elements)
        for each in lanes
    }
    return tuple(Choice(0, each, 0.0) for each in sorted(taken))


def _too_fast(node: Node, form: MatrixForm, interval: int) -> Diagnostic:
    least = fastest_cycles(form)
    return diagnostic(
        "GW0703",
        f"interval {interval} cannot be met: {node.output.name} takes at least {least} cycles",
        location=node.location,
        note=f"{_most(form)} a cycle with every multiplier in parallel",
        help=f"ask for interval={least} or more",
    )


def _unreachable(node: Node, windows: Mapping[Value, Node], interval: int) -> Diagnostic | None:
    """What a pooling's or a lone window's line buffers cannot do in ``interval``."""
    source = windows.get(node.inputs[0])
    if source is not None and isinstance(node.op, Reduce):
        geometry = Geometry.of(_window_of(source), source.inputs[0])
        least, most = geometry.column_cycles(geometry.columns.positions), f"{geometry.rows.reach} lines of the image"
    elif isinstance(node.op, Window) and node.output not in windows:
        geometry = Geometry.of(node.op, node.inputs[0])
        least = max(geometry.positions * geometry.taps, geometry.rows.size * geometry.columns.size)
        most = f"{least} taps of windows that no convolution or pooling reads"
    else:
        return None
    if least <= interval:
        return None
    return diagnostic(
        "GW0703",
        f"interval {interval} cannot be met: {node.output.name} takes at least {least} cycles",
        location=node.location,
        note=f"{most}, one a cycle",
        help=f"ask for interval={least} or more",
    )


def _window_of(node: Node) -> Window:
    assert isinstance(node.op, Window)
    return node.op


def _most(form: MatrixForm) -> str:
    """How much of a contraction at most is computed in a cycle."""
    if form.window is None or (form.groups > 1 and not form.is_depthwise):
        return f"{form.products} products a sample, one"
    lines = form.window.geometry.rows.reach
    return f"{lines} lines of the image, padding included, one" if lines > 1 else "one line"
