"""Folding: how many multipliers and lanes every stage gets so that it meets the interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gatewright.diagnostics import Collector, Diagnostic, diagnostic, error
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.contract import Contract, Indices
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.types import Value


@dataclass(frozen=True, slots=True)
class Tile:
    """Elements a beat on the way in and out: SIMD and PE of a contraction, else the lanes (both equal)."""

    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class MatrixForm:
    """A contraction of a stream with constants as matrix-vector products.

    ``weights`` are codes [groups, outputs, inputs]; a sample has ``rows`` rows of ``groups`` products.
    """

    rows: int
    weights: IntegerArray
    stream: Value
    constant: Value

    @property
    def groups(self) -> int:
        """Independent products of a row."""
        return self.weights.shape[0]

    @property
    def outputs(self) -> int:
        """Results of one product."""
        return self.weights.shape[1]

    @property
    def inputs(self) -> int:
        """Inputs of one product."""
        return self.weights.shape[2]

    @property
    def products(self) -> int:
        """Matrix-vector products per sample."""
        return self.rows * self.groups

    def cycles(self, tile: Tile) -> int:
        """Cycles per sample with this tile."""
        return self.products * -(-self.outputs // tile.outputs) * -(-self.inputs // tile.inputs)


def matrix_form(node: Node, constants: Mapping[Value, IntegerArray]) -> MatrixForm:
    """The canonical form of a contraction; raises GW0710 where the hardware has none."""
    assert isinstance(node.op, Contract)
    indices = node.op.indices
    left, right = node.inputs
    if left in constants:
        left, right = right, left
        indices = Indices(indices.right, indices.left, indices.result)
    if right not in constants or left in constants:
        raise error(
            "GW0710",
            "a product of two streams has no hardware yet",
            location=node.location,
            note=f"contract {indices}: both operands depend on the model's inputs",
            help="make one operand a parameter or a buffer",
        )
    sizes = indices.sizes(left.shape, right.shape)
    rows = [name for name in indices.left if name in indices.result and name not in indices.right]
    groups = [name for name in indices.left if name in indices.result and name in indices.right]
    summed = [name for name in indices.left if name not in indices.result]
    outputs = [name for name in indices.right if name in indices.result and name not in indices.left]
    if indices.left != (*rows, *groups, *summed) or indices.result != (*rows, *groups, *outputs):
        raise error(
            "GW0711",
            f"contract {indices}: the order of its indices has no hardware yet",
            location=node.location,
            help="transpose the operand in the model so that the summed axis comes last",
        )
    order = [indices.right.index(name) for name in (*groups, *outputs, *summed)]

    def extent(names: list[str]) -> int:
        return int(np.prod([sizes[name] for name in names], dtype=np.int64))

    weights = constants[right].transpose(order).reshape(extent(groups), extent(outputs), extent(summed))
    return MatrixForm(extent(rows), weights, left, right)


def constants_of(graph: Graph) -> dict[Value, IntegerArray]:
    """The arrays of all constants of a graph."""
    return {node.output: node.op.data.array for node in graph.nodes if isinstance(node.op, Constant)}


def candidate_tiles(form: MatrixForm, cycles: int) -> Iterator[Tile]:
    """For every useful number of output lanes the fewest input lanes that finish in ``cycles`` per sample."""
    budget = cycles // form.products
    seen: set[int] = set()
    for blocks in range(1, min(form.outputs, budget) + 1):
        outputs = -(-form.outputs // blocks)
        if outputs in seen:
            continue
        seen.add(outputs)
        beats = budget // -(-form.outputs // outputs)
        if beats >= 1:
            yield Tile(-(-form.inputs // min(beats, form.inputs)), outputs)


ANY_LANES = 0
"""The lanes of an input port, which takes those of its reader."""


def tile_cost(form: MatrixForm, tile: Tile, lanes_in: int) -> float:
    """Estimated LUTs: multipliers, adder trees, accumulators, input memory, and adapting ``lanes_in``."""
    width_in, width_weight = form.stream.width, form.constant.width
    product = width_in + width_weight
    accumulator = product + max(form.inputs - 1, 1).bit_length()
    multipliers = tile.inputs * tile.outputs
    cost = multipliers * (40.0 + 0.25 * product)
    cost += tile.outputs * (tile.inputs - 1) * (product + 1) + tile.outputs * (accumulator + 4)
    cost += tile.inputs * width_in * 0.5
    if lanes_in not in (ANY_LANES, tile.inputs):
        more, fewer = max(lanes_in, tile.inputs), min(lanes_in, tile.inputs)
        cost += 12 + more * width_in * (1.0 if more % fewer == 0 else 3.0)
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
        return sum(tile.inputs * tile.outputs for tile in self.tiles.values())


def serial_interval(graph: Graph) -> int:
    """The interval of the smallest design: one multiplier a contraction, one element a beat."""
    constants = constants_of(graph)
    longest = max((value.size for value in graph.values() if value not in constants), default=1)
    for node in graph.nodes:
        if isinstance(node.op, Contract):
            longest = max(longest, matrix_form(node, constants).cycles(Tile(1, 1)))
    return longest


def fastest_interval(graph: Graph) -> int:
    """The interval with every multiplier of a row in parallel: one row a cycle."""
    constants = constants_of(graph)
    return max(
        (matrix_form(node, constants).products for node in graph.nodes if isinstance(node.op, Contract)), default=1
    )


def fold(graph: Graph, interval: int) -> Folding:
    """Choose the cheapest tiles that meet ``interval`` cycles between samples.

    Raises GW0703 with the best possible interval where it cannot be met.
    """
    constants = constants_of(graph)
    problems = Collector()
    tiles: dict[Value, Tile] = {}
    forms: dict[Value, MatrixForm] = {}
    lanes: dict[Value, int] = dict.fromkeys(graph.inputs, ANY_LANES)
    for node in graph.nodes:
        if node.output in constants:
            continue
        sources = [lanes[value] for value in node.inputs if value in lanes]
        if not isinstance(node.op, Contract):
            lanes[node.output] = _follow(node, interval, sources)
            continue
        form = matrix_form(node, constants)
        choices = list(candidate_tiles(form, interval))
        if not choices:
            problems.add(_too_fast(node, form, interval))
            continue
        forms[node.output] = form
        offered = max(sources, default=ANY_LANES)
        tiles[node.output] = min(choices, key=lambda tile: (tile_cost(form, tile, offered), tile.inputs))
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
    return diagnostic(
        "GW0703",
        f"interval {interval} cannot be met: {node.output.name} takes at least {form.products} cycles",
        location=node.location,
        note=f"{form.products} rows a sample, one row a cycle with every multiplier in parallel",
        help=f"ask for interval={form.products} or more",
    )


def _input_lanes(graph: Graph, value: Value, interval: int, tiles: Mapping[Value, Tile]) -> int:
    """The lanes of an input port: those of the contractions that read it, and enough for the interval."""
    elements = value.shape[-1] if value.shape else 1
    wanted = minimum_lanes(value, interval)
    same = {value}
    for node in graph.nodes:
        if isinstance(node.op, Reshape) and node.inputs[0] in same:
            same.add(node.output)
        elif node.output in tiles and any(each in same for each in node.inputs):
            wanted = max(wanted, tiles[node.output].inputs)
    return min(wanted, elements)


def minimum_lanes(value: Value, interval: int) -> int:
    """The fewest lanes with which ``value`` passes in ``interval`` beats; all of a row if that is not enough."""
    elements = value.shape[-1] if value.shape else 1
    rows = max(value.size // max(elements, 1), 1)
    beats = interval // rows
    return elements if beats < 1 else -(-elements // min(beats, elements))
