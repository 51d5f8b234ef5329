"""legalise: from operators on real values with visible casts to primitives on integers."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatewright.diagnostics import Collector, GatewrightError, diagnostic
from gatewright.ir.block_products import BlockOperator, Grouped
from gatewright.ir.block_values import BlockValue, encoded_blocks
from gatewright.ir.blocks import block_input, legalise_blocks
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.casts import check_repeatable
from gatewright.ir.formats import Block, CastSpec, ScalarFormat
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, RealArray
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.ops.slice import Slice
from gatewright.ir.scaled_weights import ScaledWeights
from gatewright.ir.types import Shape, Tensor, Type, Value
from gatewright.ir.verifier import verify

MOVEMENTS = (Reshape, Permute, Slice, Concat, Pad)
"""Operators that only move elements, so that a cast after them equals the same cast before them."""


@dataclass(frozen=True, slots=True)
class Legalised:
    """The integer graph, and for every value of the quantised graph its integer value.

    ``blocks`` holds the values in block formats, which are two integer values each, and the inputs among them as they
    stand at their ports.
    """

    graph: Graph
    values: Mapping[Value, Value]
    blocks: Mapping[Value, BlockValue] = field(default_factory=dict[Value, BlockValue])


def legalise(graph: Graph) -> Legalised:
    """Rewrite a quantised graph into primitives on integers.

    Every operand that is not exact must have been cast. Constants are rounded here, once. Raises
    ``GatewrightError`` with all problems found: an input or operand without a format, a constant
    that its operator cannot take.
    """
    problems = Collector()
    builder = Builder(graph.name)
    values: dict[Value, Value] = {}
    blocks: dict[Value, BlockValue] = {}
    weights: dict[Value, ScaledWeights] = {}
    known: Mapping[Value, Grouped] = ChainMap[Value, Any](values, blocks, weights)
    _check_casts(graph, problems)
    ports: dict[Value, BlockValue] = {}
    for value, port in input_casts(graph, problems).items():
        with builder.at(value.location, value.name):
            format = port.spec.format
            if isinstance(format, Block):
                try:
                    ports[value] = block_input(builder, value.name, port.shape, format, port.axis)
                except GatewrightError as problem:
                    problems.add(problem)
                    continue
                blocks.update(dict.fromkeys(port.casts, ports[value]))
                continue
            assert isinstance(format, ScalarFormat)
            values[value] = builder.input(value.name, Type(value.shape, format, interval_of_codes(format)))
    problems.raise_if_any()
    for node in graph.nodes:
        if any(operand not in known for operand in node.inputs):
            continue  # an operand already failed, as its own message says; or it leads to the cast of a port in blocks
        try:
            with builder.at(node.location, node.output.name):
                operands = [known[operand] for operand in node.inputs]
                result = legalise_blocks(builder, node, operands)
                if result is None:
                    result = _legalise_node(builder, node, [values[operand] for operand in node.inputs])
        except GatewrightError as problem:
            problems.add(problem)
            continue
        if isinstance(result, BlockValue):
            blocks[node.output] = result
        elif isinstance(result, ScaledWeights):
            weights[node.output] = result
        else:
            values[node.output] = result
    problems.raise_if_any()
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        if value in blocks:
            problems.add(_block_output(name, blocks[value], value))
    problems.raise_if_any()
    outputs = [values[value] for value in graph.outputs]
    for value, name in zip(outputs, graph.output_names, strict=True):
        if value.type.is_real:
            problems.add(diagnostic("GW0330", f"output {name} has no format", location=value.location))
    problems.raise_if_any()
    return Legalised(verify(builder.finish(outputs, graph.output_names), "integer", "legalise"), values, blocks | ports)


def _check_casts(graph: Graph, problems: Collector) -> None:
    """GW0310 for every stochastic cast: at ports, of constants, of functions' results and of blocks' products too."""
    for node in graph.nodes:
        for spec in _casts_of(node.op):
            try:
                check_repeatable(spec, node.location)
            except GatewrightError as problem:
                problems.add(problem)
    problems.raise_if_any()


def _casts_of(op: Operator) -> list[CastSpec]:
    """Every cast that an operator makes."""
    if isinstance(op, Cast):
        return [op.spec]
    if isinstance(op, BlockOperator):
        return [] if op.accumulation is None else [op.accumulation.spec]
    spec: CastSpec | None = getattr(op, "result", None) if op.result_role is not None else None
    return [] if spec is None else [spec]


def _block_output(name: str, value: BlockValue, source: Value):
    return diagnostic(
        "GW0385",
        f"output {name} is in the block format {value.format}",
        location=source.location,
        note="an output port carries one stream of numbers",
        help="leave the output exact, or cast it to a scalar format such as fixed<16,8>",
    )


def _legalise_node(builder: Builder, node: Node, operands: list[Value]) -> Value:
    op = node.op
    if isinstance(op, Constant):
        return builder.add(op, name=node.output.name)
    arrays = [builder.constant_of(value) for value in operands]
    if operands and all(value.type.is_real for value in operands):
        constants = [array for array in arrays if array is not None]
        if len(constants) == len(operands):
            return _fold(builder, node, op, operands, constants)
    if any(value.type.is_real for value in operands):
        raise GatewrightError(
            diagnostic(
                "GW0331",
                f"{op.name} has an operand without a number format",
                location=node.location,
                note="hardware computes on integers: every operand that is not exact needs a cast",
                help="give `formats` an entry for it, or put a quantise operator before it in the model",
            )
        )
    if not op.takes_codes:
        operands = [builder.decoded(value) for value in operands]
    return op.decompose(builder, *operands)


def _fold(builder: Builder, node: Node, op: object, operands: list[Value], constants: list[RealArray]) -> Value:
    """Compute an operator on real constants; a cast rounds them into codes."""
    import numpy as np

    arrays = [np.asarray(each, dtype=np.float64) for each in constants]
    source = getattr(getattr(builder.producer(operands[0]), "op", None), "source", "")
    if isinstance(op, Cast) and isinstance(op.spec.format, ScalarFormat):
        codes = op.spec.format.encode(arrays[0], op.spec.rounding, op.spec.overflow)
        return builder.add(Constant(Tensor(codes), op.spec.format, source=source), name=node.output.name)
    return builder.parameter(source or node.output.name, node.op.evaluate(*arrays), trainable=False)


@dataclass(frozen=True, slots=True)
class PortCast:
    """The cast of an input: its format, and for a block format along which ``axis`` of which ``shape`` the blocks lie.

    ``moves`` bring the input into that shape first: they are not part of the hardware, whose port carries the
    elements as the cast gives them. ``casts`` are the cast values.
    """

    spec: CastSpec
    shape: Shape
    axis: int = -1
    moves: tuple[Operator, ...] = ()
    casts: tuple[Value, ...] = ()

    def moved(self, real: RealArray) -> RealArray:
        """An input array (batch leading) as the cast sees it."""
        for op in self.moves:
            real = op.evaluate(real)
        return real

    def encode(self, real: RealArray) -> list[IntegerArray]:
        """The codes of an input array (batch leading); in a block format, elements and scales."""
        format = self.spec.format
        if isinstance(format, Block):
            return list(encoded_blocks(self.moved(real), self.spec, self.axis))
        assert isinstance(format, ScalarFormat)
        return [format.encode(real, self.spec.rounding, self.spec.overflow)]


def input_casts(graph: Graph, problems: Collector) -> dict[Value, PortCast]:
    """The one cast of every input, found directly after it or behind operators that only move elements."""
    users = graph.users()
    found: dict[Value, PortCast] = {}
    for value in graph.inputs:
        casts: dict[Value, tuple[Cast, Value, tuple[Operator, ...]]] = {}
        missing: list[Node] = []
        pending: list[tuple[Value, tuple[Operator, ...]]] = [(value, ())]
        while pending:
            current, moves = pending.pop()
            for node in users[current]:
                if isinstance(node.op, Cast):
                    casts[node.output] = node.op, current, moves
                elif isinstance(node.op, MOVEMENTS):
                    pending.append((node.output, (*moves, node.op)))
                else:
                    missing.append(node)
        different = sorted({str(op.spec) for op, _, _ in casts.values()})
        if missing or len(different) != 1 or value in graph.outputs:
            problems.add(_input_problem(value, different, missing))
            continue
        op, source, moves = next(iter(casts.values()))
        if not isinstance(op.spec.format, Block | ScalarFormat):
            problems.add(_scaled_input(value, op.spec))
            continue
        if not isinstance(op.spec.format, Block):
            found[value] = PortCast(op.spec, value.shape)
        elif all((each.axis, way) == (op.axis, moves) for each, _, way in casts.values()) and _only_reorders(moves):
            found[value] = PortCast(op.spec, source.shape, op.axis, moves, tuple(casts))
        else:
            problems.add(
                _moved_blocks(value, [(each.axis, each_source.shape) for each, each_source, _ in casts.values()])
            )
    return found


def _scaled_input(value: Value, spec: CastSpec):
    return diagnostic(
        "GW0336",
        f"input {value.name} is cast to the scaled format {spec.format}",
        location=value.location,
        note="its scale is found from all numbers of a tensor at once, which constants alone have",
        help='give inputs a scalar format such as "fixed<8,4>", and weights alone the scaled one',
    )


def _only_reorders(moves: tuple[Operator, ...]) -> bool:
    return all(isinstance(op, Reshape | Permute) for op in moves)


def _moved_blocks(value: Value, found: list[tuple[int, Shape]]):
    shown = sorted({f"axis {axis} of {list(shape)}" for axis, shape in found})
    return diagnostic(
        "GW0335",
        f"input {value.name} is cast to blocks along {' and along '.join(shown)}",
        location=value.location,
        note="one port carries one tensor of blocks, in the shape that its only kind of reader wants",
        help="cast the input to a scalar format such as fixed<16,12>, and to blocks where each product reads it",
    )


def _input_problem(value: Value, specs: list[str], missing: list[Node]):
    if missing:
        return diagnostic(
            "GW0332",
            f"input {value.name} reaches {missing[0].op.name} without a cast",
            location=missing[0].location,
            note="the port of the hardware carries codes, so the input needs a number format",
            help="give `formats` a [default] input entry, or cast the input first in the model",
        )
    if len(specs) > 1:
        return diagnostic(
            "GW0333",
            f"input {value.name} is cast to {len(specs)} formats: {', '.join(specs)}",
            location=value.location,
            note="one port carries one format",
            help="cast the input once, to a format that serves all its readers",
        )
    return diagnostic(
        "GW0334",
        f"input {value.name} is not used by the computation",
        location=value.location,
        help="remove it from the model's forward",
    )
