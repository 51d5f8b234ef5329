"""fold_constants: primitives on constants alone are computed once, here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gatewright.ir.builder import Builder
from gatewright.ir.formats import ScalarFormat
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.contract import Contract
from gatewright.ir.transforms.rebuild import rebuild
from gatewright.ir.types import Value


def fold_constants(graph: Graph) -> Graph:
    """The integer graph in which every node that no input reaches is a constant."""

    def visit(builder: Builder, node: Node, operands: Sequence[Value]) -> Value:
        arrays = [array for value in operands if (array := builder.constant_of(value)) is not None]
        format = node.output.format
        if not operands or len(arrays) != len(operands) or not isinstance(format, ScalarFormat):
            return builder.add(node.op, *operands)
        if isinstance(node.op, Contract):
            codes = node.op.evaluate(*arrays)
        else:
            # With a batch of one in front, operands of lower rank align as they do per sample.
            codes = node.op.evaluate(*(array[np.newaxis] for array in arrays))[0]
        return builder.integers(codes, format, name=node.output.name)

    return rebuild(graph, visit)
