"""Lowering: from the integer graph and its folding to a network of components."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from dataclasses import replace
from math import gcd

from gatewright.diagnostics import Collector, GatewrightError, Location, diagnostic
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.streams.cells import Adapter, Fifo, Fork, Repeat, Replay
from gatewright.ir.streams.folding import Folding
from gatewright.ir.streams.following import suited
from gatewright.ir.streams.forms import absorbed_windows, constants_of
from gatewright.ir.streams.identifiers import LONGEST_MODULE_NAME, LONGEST_NAME, is_reserved
from gatewright.ir.streams.network import Channel, Component, Layout, Network
from gatewright.ir.targets import Target
from gatewright.ir.types import Value

UNSIZED = 1 << 40
"""Depth of a FIFO before the token-level simulation has found how deep it must be."""


def natural_rows(value: Value) -> tuple[int, int]:
    """Rows and elements of a row: the last axis is a row."""
    elements = value.shape[-1] if value.shape else 1
    return value.size // max(elements, 1), elements


class Lowering:
    """Builds the network of one graph; the units themselves are made in ``lower_units``."""

    def __init__(self, graph: Graph, folding: Folding, target: Target) -> None:
        self.graph = graph
        self.folding = folding
        self.target = target
        self.constants = constants_of(graph)
        self.components: list[Component] = []
        self._names: set[str] = set()
        self.windows = absorbed_windows(graph, self.constants)
        self._alias = {node.output: node.inputs[0] for node in graph.nodes if isinstance(node.op, Reshape)}
        self._ready: dict[Value, deque[Channel]] = defaultdict(deque)
        self._uses = self._count_uses()
        self._forks: dict[str, frozenset[str]] = defaultdict(frozenset)
        self._location = Location()

    # ---- names and values --------------------------------------------------------------------
    def fresh(self, hint: str, alone: bool = False) -> str:
        """A new lower-case SystemVerilog identifier made from ``hint``.

        Names of streams and units stand before a suffix or behind a prefix; one that stands ``alone``
        must not be a keyword. Long names keep their end, which tells them apart.
        """
        most = LONGEST_MODULE_NAME if alone else LONGEST_NAME
        base = re.sub(r"[^a-z0-9_]", "_", hint.lower())[-most:].strip("_") or "stream"
        base = f"n{base}" if base[0].isdigit() or (alone and is_reserved(base)) else base
        name, count = base, 1
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        return name

    def root(self, value: Value) -> Value:
        """The value whose stream carries ``value``: reshapes move nothing."""
        while value in self._alias:
            value = self._alias[value]
        return value

    def _count_uses(self) -> dict[Value, int]:
        uses: dict[Value, int] = defaultdict(int)
        for node in self.graph.nodes:
            if not isinstance(node.op, Reshape) and node.output not in self.windows:
                for value in node.inputs:
                    # Whoever reads an absorbed window makes it, and so reads the window's source.
                    window = self.windows.get(self.root(value))
                    uses[self.root(value if window is None else window.inputs[0])] += 1
        for value in self.graph.outputs:
            uses[self.root(value)] += 1
        return uses

    # ---- channels --------------------------------------------------------------------------
    def channel(self, value: Value, layout: Layout, hint: str = "") -> Channel:
        """A new channel."""
        return Channel(self.fresh(hint or value.name), value, layout)

    def emit(self, component: Component) -> tuple[Channel, ...]:
        """Add a component; its outputs."""
        self.components.append(component)
        inherited = frozenset[str]().union(*(self._forks[each.name] for each in component.inputs))
        for each in component.outputs:
            own = frozenset([component.name]) if isinstance(component, Fork) else frozenset[str]()
            self._forks[each.name] = inherited | own
        return component.outputs

    def produced(self, value: Value, channel: Channel) -> None:
        """Record that ``channel`` carries ``value``; with several readers it is forked."""
        count = self._uses[value]
        if count <= 1:
            self._ready[value].append(channel)
            return
        outputs = tuple(self.channel(value, channel.layout, f"{channel.name}_{k}") for k in range(count))
        self.emit(Fork(self.fresh(f"{channel.name}_fork"), (channel,), outputs, value.location))
        self._ready[value].extend(outputs)

    def peek(self, value: Value) -> Layout:
        """The layout in which ``value`` is offered."""
        return self._ready[self.root(value)][0].layout

    def take(self, value: Value, rows: int, elements: int, lanes: int) -> Channel:
        """A stream of ``value`` for one reader, in this layout."""
        return self.convert(self._ready[self.root(value)].popleft(), Layout(rows, elements, lanes))

    def suited(self, value: Value, offered: int) -> Layout:
        """The layout in which ``value`` is made from streams of ``offered`` lanes."""
        return suited(value, offered, self.folding.interval)

    def take_as(self, value: Value, layout: Layout) -> Channel:
        """A stream of ``value`` for one reader, in ``layout``."""
        return self.take(value, layout.rows, layout.elements, layout.lanes)

    def convert(self, channel: Channel, wanted: Layout) -> Channel:
        """``channel`` in another layout of the same elements, through width adapters where needed."""
        layout = channel.layout
        if (layout.rows, layout.elements) == (wanted.rows, wanted.elements):
            return self.adapt(channel, wanted.lanes)
        common = gcd(layout.elements, wanted.elements)
        divisors = [each for each in range(1, common + 1) if common % each == 0]
        lanes = max(each for each in divisors if each <= layout.lanes)
        needed = -(-layout.rows * layout.elements // self.folding.interval)
        if lanes < needed:
            lanes = min((each for each in divisors if each >= needed), default=common)
        narrow = self.adapt(channel, lanes)
        relabelled = Channel(narrow.name, narrow.value, Layout(wanted.rows, wanted.elements, lanes))
        return self.adapt(relabelled, wanted.lanes)

    def adapt(self, channel: Channel, lanes: int) -> Channel:
        """``channel`` with another number of lanes."""
        layout = channel.layout
        if layout.lanes == lanes:
            return channel
        output = self.channel(channel.value, replace(layout, lanes=lanes), f"{channel.name}_x{lanes}")
        name = self.fresh(f"{output.name}_adapter")
        return self.emit(Adapter(name, (channel,), (output,), self._location))[0]

    def replay(self, channel: Channel, window: int, repeats: int) -> Channel:
        """``channel`` with every group of ``window`` beats ``repeats`` times."""
        if repeats == 1:
            return channel
        layout = channel.layout
        rows = layout.rows * repeats
        output = self.channel(channel.value, replace(layout, rows=rows), f"{channel.name}_replayed")
        name = self.fresh(f"{channel.name}_replay")
        if window == 1:
            return self.emit(Repeat(name, (channel,), (output,), self._location, repeats))[0]
        buffer = Replay(name, (channel,), (output,), self._location, window, repeats, 2 * window)
        return self.emit(buffer)[0]

    def join(self, channels: list[Channel]) -> list[Channel]:
        """The inputs of a unit that reads several streams: FIFOs where paths from one fork meet again."""
        common: frozenset[str] = frozenset()
        for position, first in enumerate(channels):
            for second in channels[position + 1 :]:
                common |= self._forks[first.name] & self._forks[second.name]
        if not common:
            return channels
        return [self.queued(channel) for channel in channels]

    def queued(self, channel: Channel) -> Channel:
        """``channel`` behind a FIFO, which is left out again where nothing has to wait."""
        output = self.channel(channel.value, channel.layout, f"{channel.name}_queued")
        fifo = Fifo(self.fresh(f"{channel.name}_fifo"), (channel,), (output,), self._location, UNSIZED)
        return self.emit(fifo)[0]

    # ---- the whole graph ---------------------------------------------------------------------
    def run(self) -> Network:
        """Lower every node; raises all problems found."""
        from gatewright.ir.streams.lower_units import lower_node

        problems = Collector()
        inputs = [self._input(value) for value in self.graph.inputs]
        for node in self.graph.nodes:
            if isinstance(node.op, Constant | Reshape):
                continue
            self._location = node.location
            try:
                lower_node(self, node)
            except GatewrightError as problem:
                problems.add(problem)
                self._substitute(node)
        problems.raise_if_any()
        outputs: list[Channel] = []
        for value, name in zip(self.graph.outputs, self.graph.output_names, strict=True):
            if self.root(value) in self.constants:
                problems.add(
                    diagnostic(
                        "GW0712",
                        f"output {name} does not depend on any input",
                        location=value.location,
                        help="remove it from the model's outputs",
                    )
                )
                continue
            outputs.append(self._output(value, name))
        problems.raise_if_any()
        return Network(
            self.fresh(self.graph.name, alone=True),
            tuple(inputs),
            tuple(outputs),
            tuple(self.components),
            self.graph.output_names,
        )

    def _substitute(self, node: Node) -> None:
        """After an error: a stream of the right shape, so that later nodes can be checked too."""
        rows, elements = natural_rows(node.output)
        self.produced(node.output, self.channel(node.output, Layout(rows, elements, 1)))

    def _input(self, value: Value) -> Channel:
        channel = self.channel(value, Layout.of(value.shape, self.folding.input_lanes.get(value, 1)))
        self.produced(value, channel)
        return channel

    def _output(self, value: Value, name: str) -> Channel:
        """A two-slot register cuts the ready path at the port."""
        channel = self._ready[self.root(value)].popleft()
        output = Channel(self.fresh(name), channel.value, channel.layout)
        slice_name = self.fresh(f"{name}_slice")
        return self.emit(Fifo(slice_name, (channel,), (output,), value.location, 2))[0]


def lower(graph: Graph, folding: Folding, target: Target) -> Network:
    """The network of ``graph``; FIFOs where paths meet again are still unsized."""
    return Lowering(graph, folding, target).run()
