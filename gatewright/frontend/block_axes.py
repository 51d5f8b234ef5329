"""Along which axis a cast to blocks lies in front of an operator that makes no product, such as a residual sum.

Products say it themselves: a convolution has its blocks along the channels. Other operators go with the products
around them, so that one tensor is cut into blocks in one way wherever it is read.
"""

from __future__ import annotations

from dataclasses import replace

from gatewright.backends.torch.texts import MOVEMENTS, streams_of
from gatewright.ir.block_values import fitted
from gatewright.ir.formats import Block, CastSpec
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.constant import Constant
from gatewright.ir.types import Value


class BlockAxes:
    """The blocked axis, from the end, of every operand of a graph's operators."""

    def __init__(self, graph: Graph) -> None:
        self._leader: dict[Value, Value] = {}
        self._hints: dict[Value, list[int]] = {}
        streams = streams_of(graph)
        for node in graph.nodes:
            if node.output not in streams or isinstance(node.op, MOVEMENTS) or _is_product(node):
                continue
            for value in node.inputs:
                if value in streams and len(value.shape) == len(node.output.shape):
                    self._leader[self._root(value)] = self._root(node.output)
        for node in graph.nodes:
            if node.output in streams and _is_product(node):
                for index, value in enumerate(node.inputs):
                    self._hints.setdefault(self._root(value), []).append(node.op.block_axis(index))
                self._hints.setdefault(self._root(node.output), []).append(node.op.block_axis(-1))

    def of(self, node: Node, index: int) -> int:
        """The axis of operand ``index`` of ``node``, or of its result for -1."""
        if _is_product(node):
            return node.op.block_axis(index)
        value = node.output if index < 0 else node.inputs[index]
        # A constant that is broadcast to the result lies in the result's axes.
        hints = [each for side in (value, node.output) for each in self._hints.get(self._root(side), [])]
        axis = next((each for each in hints if each != -1), -1) if -1 not in hints else -1
        return max(axis, -max(len(value.shape), 1))

    def cast(self, spec: CastSpec, node: Node, index: int) -> Cast:
        """The cast of an operand, or of the result for -1: along its axis, in blocks that are no longer than that."""
        if not isinstance(spec.format, Block):
            return Cast(spec)
        shape, axis = (node.output if index < 0 else node.inputs[index]).shape, self.of(node, index)
        length = node.op.block_length(index, shape) if _is_product(node) else shape[axis] if shape else 1
        return Cast(replace(spec, format=fitted(spec.format, length)), axis)

    def _root(self, value: Value) -> Value:
        while value in self._leader and self._leader[value] != value:
            value = self._leader[value]
        return value


def _is_product(node: Node) -> bool:
    return node.op.takes_blocks(0) and not isinstance(node.op, Cast | Constant)
