"""How a node of the tensor level reads in PyTorch: its operator's text on the operands' names.

A stream carries the batch as its leading axis, a constant has none. Operators that only move elements
expect a batch; a constant gives them a batch of one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

from gatewright.ir.formats import CastSpec
from gatewright.ir.graph import Graph, Node
from gatewright.ir.operator import Operator
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.ops.slice import Slice
from gatewright.ir.types import Value

MOVEMENTS = (Concat, Pad, Permute, Reshape, Slice)


def streams_of(graph: Graph) -> set[Value]:
    """The values that depend on a graph input, and so have a batch axis in PyTorch."""
    found = set(graph.inputs)
    for node in graph.nodes:
        if any(value in found for value in node.inputs):
            found.add(node.output)
    return found


def result_cast(op: Operator) -> CastSpec | None:
    """The cast that a function applies to its own result; None where it has none (yet)."""
    return getattr(op, "result", None) if op.result_role is not None else None


def with_result(op: Operator, spec: CastSpec | None) -> Operator:
    """The function with another cast of its result."""
    return cast(Operator, dataclasses.replace(cast(Any, op), result=spec))


def operation_text(node: Node, arguments: Sequence[str], streams: set[Value]) -> str:
    """The expression for ``node``; ``arguments`` are expressions for its operands.

    A function's own cast is left out: it is the caller's to apply.
    """
    op = node.op if result_cast(node.op) is None else with_result(node.op, None)
    if node.output not in streams and isinstance(op, MOVEMENTS):
        return f"{op.torch(*(f'{each}[None]' for each in arguments))}[0]"
    if isinstance(op, Concat):
        like = next(text for text, value in zip(arguments, node.inputs, strict=True) if value in streams)
        arguments = [
            text if value in streams else f"gw.repeat({text}, {like})"
            for text, value in zip(arguments, node.inputs, strict=True)
        ]
    return op.torch(*arguments)
