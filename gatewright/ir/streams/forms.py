"""The forms of contractions that have hardware, and the tiles in which they are computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice, product
from math import prod

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.contract import Contract, Indices
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.ops.window import Window
from gatewright.ir.streams.geometry import Columns, Geometry, Parallel, WindowForm
from gatewright.ir.streams.network import Layout
from gatewright.ir.streams.terms import has_terms, inputs_a_term
from gatewright.ir.types import Shape, Value

COLUMN_CHOICES = 3
"""How many numbers of positions a cycle are tried, the smallest that meet the interval."""


@dataclass(frozen=True, slots=True)
class Tile:
    """How a contraction is cut: products per result and beat (SIMD), and results per block (PE).

    Behind a window ``channels`` elements of a pixel make a word of the stream, the taps of the ``parallel`` kernel
    axes arrive side by side, and with ``lane_groups`` above 1 as many groups of one channel are computed at once.
    Where ``inputs`` are other than these lanes the window's elements are regrouped. With ``columns`` the whole
    products of as many neighbouring positions are made in a beat, each with ``inputs`` times ``outputs`` multipliers.
    With ``term_lanes`` the inputs come so many a beat and are added as terms (:mod:`gatewright.ir.streams.terms`).
    """

    inputs: int
    outputs: int
    channels: int = 0
    parallel: Parallel = (False, False)
    lane_groups: int = 1
    columns: int = 0
    term_lanes: int = 0

    @property
    def multipliers(self) -> int:
        """Multipliers of the array."""
        return self.inputs * self.outputs * max(self.columns, 1)

    @property
    def lanes_out(self) -> int:
        """Results a beat."""
        return self.outputs * max(self.columns, 1)


@dataclass(frozen=True, slots=True)
class MatrixForm:
    """A contraction of a stream with constants as matrix-vector products.

    ``weights`` are codes [groups, outputs, inputs]; a sample has ``rows`` rows of ``groups`` products. ``window``
    tells how the inputs are found where the stream is read through a window.
    """

    rows: int
    weights: IntegerArray
    stream: Value
    constant: Value
    window: WindowForm | None = None

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

    @property
    def operations(self) -> int:
        """Multiplications per sample."""
        return self.rows * self.weights.size

    @property
    def is_depthwise(self) -> bool:
        """Whether every channel behind the window is a group of its own."""
        return self.window is not None and self.window.channels == 1 and self.groups > 1

    def blocks(self, tile: Tile) -> int:
        """Blocks of results that are computed one after the other."""
        return -(-self.outputs // tile.outputs) if tile.lane_groups == 1 else 1

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The axes along which a sample's rows lie."""
        if self.window is not None:
            return self.window.geometry.rows.positions, self.window.geometry.columns.positions
        shape = self.stream.shape
        return next(shape[:axes] for axes in range(len(shape), -1, -1) if prod(shape[:axes]) == self.rows)

    def lanes_in(self, tile: Tile) -> int:
        """Elements a beat of the stream that is read."""
        if not tile.columns:
            return tile.term_lanes or tile.channels or tile.inputs
        if self.window is None:
            return tile.columns * tile.inputs
        return Columns(self.window.geometry.columns, tile.columns).pixels * self.window.source.shape[-1]

    def regroups(self, tile: Tile) -> bool:
        """Whether the array takes other numbers of elements than the window delivers side by side."""
        if self.window is None or tile.lane_groups > 1 or tile.columns:
            return False
        return tile.inputs != self.window.lanes(tile.parallel, tile.channels)

    def words(self, tile: Tile) -> int:
        """Beats that carry one pixel of the window's source, all groups included."""
        assert self.window is not None
        if tile.lane_groups > 1 or self.is_depthwise:
            return -(-self.groups // tile.lane_groups)
        return -(-self.window.channels // tile.channels) * self.groups

    def computing(self, tile: Tile) -> int:
        """Cycles per sample in which the multipliers take a beat."""
        if tile.columns:
            return Layout.of((*self.row_shape, 1), tile.columns).beats
        if tile.term_lanes:
            return self.products * max(self.blocks(tile) * (self.inputs // tile.inputs), self.inputs // tile.term_lanes)
        if self.window is None:
            return self.products * self.blocks(tile) * -(-self.inputs // tile.inputs)
        if self.regroups(tile):
            return self.products * self.blocks(tile) * -(-self.window.elements(tile.channels) // tile.inputs)
        beats = self.rows * self.words(tile) * self.window.geometry.tap_beats(tile.parallel)
        if tile.lane_groups > 1 or self.is_depthwise:
            return beats * -(-self.outputs // (tile.outputs // tile.lane_groups))
        return beats * self.blocks(tile)

    def passing(self, tile: Tile) -> int:
        """Cycles per sample in which the window takes its source in, lines of padding included; 0 without one."""
        if self.window is None:
            return 0
        if tile.columns:
            return self.window.geometry.column_cycles(tile.columns)
        geometry, words = self.window.geometry, self.words(tile)
        delivering = self.rows * words * geometry.tap_beats(tile.parallel) if self.regroups(tile) else 0
        return max(delivering, geometry.passing_beats(tile.parallel, words))

    def cycles(self, tile: Tile) -> int:
        """Cycles per sample with this tile."""
        return max(self.computing(tile), self.passing(tile))

    @property
    def serial_tile(self) -> Tile:
        """One multiplier."""
        return Tile(1, 1, channels=0 if self.window is None else 1)

    def tiles(self, cycles: int) -> Iterator[Tile]:
        """Every useful tile that finishes a sample in ``cycles``: none of them has a smaller one that does too."""
        found = self._matrix_tiles(cycles) if self.window is None else self._window_tiles(cycles)
        found = chain(found, self._column_tiles(cycles), self._term_tiles(cycles))
        return (tile for tile in found if self.cycles(tile) <= cycles)

    @property
    def tile_count(self) -> int:
        """How many tiles there are at most."""
        if self.window is None:
            return self.inputs * self.outputs + self.rows
        lanes = self.groups if self.is_depthwise else self.inputs * self.outputs * self.window.channels
        return lanes * len(self.window.geometry.choices())

    def every_tile(self, cycles: int) -> Iterator[Tile]:
        """All tiles that finish a sample in ``cycles``, useful or not."""
        found = chain(self._every_single_tile(), self._column_tiles(cycles, self.rows), self._term_tiles(cycles))
        return (tile for tile in found if self.cycles(tile) <= cycles)

    def _every_single_tile(self) -> Iterator[Tile]:
        if self.window is None:
            for inputs, outputs in product(range(1, self.inputs + 1), range(1, self.outputs + 1)):
                yield Tile(inputs, outputs)
            return
        for parallel in self.window.geometry.choices():
            beside = self.window.geometry.tap_lanes(parallel)
            if self.is_depthwise:
                for lanes in range(1, self.groups + 1):
                    yield Tile(beside, lanes * self.outputs, lanes, parallel, lanes)
                continue
            for channels, outputs in product(range(1, self.window.channels + 1), range(1, self.outputs + 1)):
                for inputs in range(1, self.window.elements(channels) + 1):
                    yield Tile(inputs, outputs, channels, parallel)

    def _column_tiles(self, cycles: int, most: int = COLUMN_CHOICES) -> Iterator[Tile]:
        """The few smallest tiles that make whole products of one position or several a cycle."""
        if self.window is not None and (self.groups == 1 or self.is_depthwise):
            geometry, groups = self.window.geometry, self.groups
            for count in islice(geometry.column_counts(cycles), most):
                yield Tile(geometry.taps * self.window.channels, groups * self.outputs, 1, (True, True), groups, count)
        elif self.window is None and self.groups == 1:
            least = Layout.fewest_lanes(self.row_shape, cycles)
            counts = dict.fromkeys(Layout.of((*self.row_shape, 1), least + more).lanes for more in range(most))
            for count in counts:
                if count > 1:
                    yield Tile(self.inputs, self.outputs, columns=count)

    def _term_tiles(self, cycles: int) -> Iterator[Tile]:
        """The tiles of terms: for every number of outputs the fewest inputs, which come as few a beat."""
        if self.window is not None or not has_terms(self.stream, self.constant):
            return
        budget, unit = cycles // self.products, inputs_a_term(self.constant.format)
        sizes = [size for size in range(unit, self.inputs + 1, unit) if self.inputs % size == 0]
        for outputs in self._output_lanes(budget):
            beats = budget // -(-self.outputs // outputs)
            inputs = next((size for size in sizes if self.inputs // size <= beats), None)
            if inputs is not None:
                for lanes in sizes:
                    if inputs % lanes == 0 and self.inputs // lanes <= budget:
                        yield Tile(inputs, outputs, term_lanes=lanes)

    def _matrix_tiles(self, cycles: int) -> Iterator[Tile]:
        budget = cycles // self.products
        for outputs in self._output_lanes(budget):
            beats = budget // -(-self.outputs // outputs)
            if beats >= 1:
                yield Tile(-(-self.inputs // min(beats, self.inputs)), outputs)

    def _window_tiles(self, cycles: int) -> Iterator[Tile]:
        assert self.window is not None
        geometry = self.window.geometry
        for parallel in geometry.choices():
            beside, taps = geometry.tap_lanes(parallel), geometry.tap_beats(parallel)
            if self.is_depthwise:
                words = min(cycles // (self.rows * taps), self.groups)
                passing = cycles // max(geometry.passing_beats(parallel, 1), 1)
                if min(words, passing) >= 1:
                    lanes = -(-self.groups // min(words, passing))
                    yield Tile(beside, lanes * self.outputs, lanes, parallel, lanes)
                continue
            budget = cycles // (self.products * taps)
            passing = cycles // max(geometry.passing_beats(parallel, self.groups), 1)
            for outputs in self._output_lanes(budget):
                words = min(budget // -(-self.outputs // outputs), passing, self.window.channels)
                if words >= 1:
                    channels = -(-self.window.channels // words)
                    yield Tile(channels * beside, outputs, channels, parallel)
            yield from self._regrouped_tiles(cycles // self.products, parallel, min(budget, passing))

    def _regrouped_tiles(self, budget: int, parallel: Parallel, most_words: int) -> Iterator[Tile]:
        """Tiles whose arrays take other numbers of elements than the window delivers, in ``budget`` beats a product.

        The window makes a pixel of at most ``most_words`` words. More channels a word than that asks for pay
        only where they leave fewer lanes unused or make the adapter simple.
        """
        assert self.window is not None
        every = list(self._output_lanes(budget))
        least = 0
        for words in range(min(most_words, self.window.channels), 0, -1):
            channels = -(-self.window.channels // words)
            if -(-self.window.channels // channels) < words:
                continue  # fewer words of as many channels
            lanes, elements = self.window.lanes(parallel, channels), self.window.elements(channels)
            least = least or elements
            for outputs in every:
                inputs = -(-elements // min(budget // -(-self.outputs // outputs), elements))
                simple = max(inputs, lanes) % min(inputs, lanes) == 0
                if inputs != lanes and (elements <= least or simple):
                    yield Tile(inputs, outputs, channels, parallel)

    def _output_lanes(self, budget: int) -> Iterator[int]:
        """Every number of result lanes that makes a different number of blocks, at most ``budget`` of them."""
        seen: set[int] = set()
        for blocks in range(1, min(self.outputs, budget) + 1):
            outputs = -(-self.outputs // blocks)
            if outputs not in seen:
                seen.add(outputs)
                yield outputs


def matrix_form(
    node: Node, constants: Mapping[Value, IntegerArray], producers: Mapping[Value, Node] | None = None
) -> MatrixForm:
    """The canonical form of a contraction; raises GW0710 where the hardware has none.

    ``producers`` are the graph's, so that a window before the contraction is found.
    """
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
    order = [indices.right.index(name) for name in (*groups, *outputs, *summed)]

    def extent(names: list[str]) -> int:
        return int(np.prod([sizes[name] for name in names], dtype=np.int64))

    weights = constants[right].transpose(order).reshape(extent(groups), extent(outputs), extent(summed))
    before = window_before(left, producers or {})
    if before is not None and indices.result == (*rows, *groups, *outputs):
        assert isinstance(before.op, Window)
        geometry = Geometry.of(before.op, before.inputs[0])
        channels = weights.shape[2] // geometry.taps
        sums_taps = all(name in summed for name in _taps(indices.left, left.shape, geometry))
        if sums_taps and geometry.positions == extent(rows) and channels * geometry.taps == weights.shape[2]:
            form = WindowForm(geometry, before.inputs[0], before.output, channels)
            return MatrixForm(extent(rows), weights, left, right, form)
    if indices.left != (*rows, *groups, *summed) or indices.result != (*rows, *groups, *outputs):
        raise error(
            "GW0711",
            f"contract {indices}: the order of its indices has no hardware yet",
            location=node.location,
            help="transpose the operand in the model so that the summed axis comes last",
        )
    return MatrixForm(extent(rows), weights, left, right)


def _taps(names: tuple[str, ...], shape: Shape, geometry: Geometry) -> list[str]:
    """The names of a window's axes that run over its kernel: they follow those of the positions."""
    found: list[str] = []
    size = 1
    for name, extent in zip(names, shape, strict=True):
        if geometry.positions <= size < geometry.positions * geometry.taps and extent > 1:
            found.append(name)
        size *= extent
    return found


def window_before(value: Value, producers: Mapping[Value, Node]) -> Node | None:
    """The window that makes ``value``, perhaps under another shape; None where it is none."""
    node = producers.get(value)
    while node is not None and isinstance(node.op, Reshape):
        node = producers.get(node.inputs[0])
    return node if node is not None and isinstance(node.op, Window) else None


def absorbed_windows(graph: Graph, constants: Mapping[Value, IntegerArray]) -> dict[Value, Node]:
    """The windows whose every reader is a contraction or a pooling that makes the window itself, by their value."""
    producers, users = graph.producer(), graph.users()
    found: dict[Value, Node] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Window) or node.output in graph.outputs:
            continue
        readers = list(users[node.output])
        absorbed = bool(readers)
        while readers:
            reader = readers.pop()
            if isinstance(reader.op, Reshape) and reader.output not in graph.outputs:
                readers += users[reader.output]
            elif isinstance(reader.op, Contract):
                streams = [value for value in reader.inputs if value not in constants]
                absorbed = (
                    absorbed and len(streams) == 1 and matrix_form(reader, constants, producers).window is not None
                )
            else:
                absorbed = absorbed and is_pooling(reader, node)
        if absorbed:
            found[node.output] = node
    return found


def is_pooling(reader: Node, window: Node) -> bool:
    """Whether a node reduces a window over exactly its kernel; axes of one tap need not be named."""
    op = window.op
    assert isinstance(op, Window)
    if not isinstance(reader.op, Reduce) or reader.inputs[0] != window.output:
        return False
    kernel = {axis for axis in range(op.rank, 2 * op.rank) if window.output.shape[axis] > 1}
    return kernel <= set(reader.op.axes) <= set(range(op.rank, 2 * op.rank))


def constants_of(graph: Graph) -> dict[Value, IntegerArray]:
    """The arrays of all constants of a graph."""
    return {node.output: node.op.data.array for node in graph.nodes if isinstance(node.op, Constant)}
