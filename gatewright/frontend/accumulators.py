"""accumulators: the window into which a product of block formats is rounded, block by block.

The scales of two operands span more powers of two than any adder, so the exact product of each pair of blocks
is rounded into a fixed-point format before the blocks are added: the role ``accumulator`` of ``formats``.
Without one the window has 32 bits and holds every product of inputs up to 256; beyond, it saturates.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from gatewright.backends.torch.texts import MOVEMENTS
from gatewright.diagnostics import Collector, Diagnostic, diagnostic
from gatewright.frontend.formats_config import Rules
from gatewright.ir.accumulation import Accumulation, product_bits
from gatewright.ir.block_products import BlockOperator
from gatewright.ir.formats import Block, CastSpec, Fixed
from gatewright.ir.graph import Graph, Node
from gatewright.ir.operator import Operator, RealArray
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.parameter_permute import ParameterPermute
from gatewright.ir.types import Value

WINDOW_BITS = 32
INPUT_BITS = 8
"""Inputs up to 2^8 are sure to stay inside the window."""
NUMBER = CastSpec(Fixed(24, 15))
"""The window in which an operator that makes no product reads operands in a block format: up to 2^8 as well."""


def with_accumulators(graph: Graph, rules: Rules, constants: dict[Value, RealArray]) -> Graph:
    """``graph`` with the accumulator of every product of block formats filled in.

    ``constants`` are the real values of the constants. Raises GW0382 where two block sizes meet and GW0388
    where an accumulator is not in fixed point.
    """
    problems = Collector()
    producer = graph.producer()
    nodes = tuple(_with_accumulator(node, producer, rules, constants, problems) for node in graph.nodes)
    problems.raise_if_any()
    return replace(graph, nodes=nodes)


def _with_accumulator(
    node: Node,
    producer: dict[Value, Node],
    rules: Rules,
    constants: dict[Value, RealArray],
    problems: Collector,
) -> Node:
    op = node.op
    if not isinstance(op, BlockOperator) or op.accumulation is not None:
        return node
    specs = [_cast_of(value, producer) for value in node.inputs[:2]]
    sizes = {spec.format.sizes[-1] for spec in specs if spec is not None and isinstance(spec.format, Block)}
    if not sizes or None in specs:
        return node
    if len(sizes) > 1:
        problems.add(_mixed_sizes(node, [spec for spec in specs if spec is not None]))
        return node
    (size,) = sizes
    problem = _axes_problem(node, producer)
    if problem is not None:
        problems.add(problem)
        return node
    spec = accumulator(rules, node, problems)
    if spec is None:
        index = next((index for index, value in enumerate(node.inputs[:2]) if value in constants), 1)
        spec = CastSpec(_window(constants.get(node.inputs[index]), size, op.block_axis(index)))
    formats = [each.format for each in specs if each is not None]
    accumulation = Accumulation(spec, size, product_bits(formats, size) > 53)
    return replace(node, op=cast(Operator, replace(cast(Any, op), accumulation=accumulation)))


def accumulator(rules: Rules, node: Node, problems: Collector) -> CastSpec | None:
    """The window that the rules give to a node, None where they give none; GW0388 where it is no fixed-point format."""
    spec = rules.for_node("accumulator", node)
    if spec is None or (isinstance(spec.format, Fixed) and spec.format.frac is not None):
        return spec
    problems.add(
        diagnostic(
            "GW0388",
            f"the accumulator {spec.format} is not a fixed-point format with all its bits given",
            location=node.location,
            note="blocks are added as integers of one weight",
            help='write it like accumulator = "fixed<32,16>"',
        )
    )
    return None


def _cast_of(value: Value, producer: dict[Value, Node]) -> CastSpec | None:
    """The cast that a value went through last, which may be that of a function's result; None where it has none."""
    node = producer.get(value)
    while node is not None and isinstance(node.op, MOVEMENTS) and len(node.inputs) == 1:
        node = producer.get(node.inputs[0])
    if node is None:
        return None
    if isinstance(node.op, Cast):
        return node.op.spec
    return getattr(node.op, "result", None) if node.op.result_role is not None else None


def _axes_problem(node: Node, producer: dict[Value, Node]) -> Diagnostic | None:
    """GW0386 where the blocks of an operand do not lie along the axis that the product sums."""
    found: list[str] = []
    summed: list[str] = []
    changes: list[str] = []
    for index, value in enumerate(node.inputs[:2]):
        cast_node, wanted, shape = producer.get(value), node.op.block_axis(index), value.shape
        name = _user_name(value, producer)
        if cast_node is not None and isinstance(cast_node.op, Cast) and isinstance(cast_node.op.spec.format, Block):
            axis, source = cast_node.op.axis, producer.get(cast_node.inputs[0])
            if source is not None and isinstance(source.op, ParameterPermute):
                # The model writes the constant in another order of axes.
                order, rank = source.op.order, len(shape)
                axis, wanted, shape = order[axis] - rank, order[wanted] - rank, source.inputs[0].shape
            found.append(f"{name} has its blocks along axis {axis}")
            if axis != wanted:
                changes.append(f'gw.cast({name}, "{cast_node.op.spec.format}", axis={wanted})')
        summed.append(f"axis {wanted} of {name} {list(shape)}")
    if not changes:
        return None
    return diagnostic(
        "GW0386",
        f"{node.location.module or node.output.name} ({node.op.name}): {' and '.join(found)}",
        location=node.location,
        note=f"the product sums {' with '.join(summed)}; elements of one block must be added with one another",
        help=f"write {' and '.join(changes)}, directly before the product",
    )


def _user_name(value: Value, producer: dict[Value, Node]) -> str:
    """What the model calls a value that was cast, or moved and cast."""
    node = producer.get(value)
    while node is not None and isinstance(node.op, Cast | ParameterPermute):
        value = node.inputs[0]
        node = producer.get(value)
    return getattr(node.op, "source", "") or value.name if node is not None else value.name


def _window(weights: RealArray | None, size: int, axis: int) -> Fixed:
    """The window whose top holds the largest product of a block of weights with inputs of INPUT_BITS bits."""
    largest = 1.0
    if weights is not None and weights.size:
        magnitudes = np.moveaxis(np.abs(weights), axis, -1)
        sums: RealArray = np.add.reduceat(magnitudes, range(0, magnitudes.shape[-1], size), axis=-1)
        largest = float(sums.max()) or 1.0
    top = int(np.frexp(largest)[1]) + INPUT_BITS
    return Fixed(WINDOW_BITS, WINDOW_BITS - 1 - top)


def _mixed_sizes(node: Node, specs: list[CastSpec]) -> Diagnostic:
    shown = " and ".join(str(spec.format) for spec in specs)
    return diagnostic(
        "GW0382",
        f"{node.op.name}: {shown} have blocks of different sizes",
        location=node.location,
        note="both sides of a product must change their scale at the same elements",
        help="choose one block size for input and weight",
    )
