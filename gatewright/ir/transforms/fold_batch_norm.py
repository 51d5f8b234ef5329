"""fold_batch_norm: batch norms become part of the linear layer before or after them, or the convolution before.

The layer's weight and bias are then computed from the original parameters by operators on parameters,
so that the printed module still has, and trains, the parameters of the model by their names.
"""

from __future__ import annotations

from collections.abc import Sequence

from gatewright.ir.builder import Builder
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.batch_norm import BatchNorm
from gatewright.ir.ops.conv import Conv
from gatewright.ir.ops.linear import Linear
from gatewright.ir.ops.parameter_affine import ParameterAffine
from gatewright.ir.ops.parameter_product import ParameterProduct
from gatewright.ir.transforms.rebuild import rebuild
from gatewright.ir.types import Value


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold every batch norm that can be folded; the others stay as an affine map per channel.

    Before: a convolution or linear layer whose result only the batch norm reads. After: linear layers that are
    its only readers. Around linear layers the channels must be the features, that is, the only axis of a sample.
    """
    while True:
        folded = _fold_before(graph) or _fold_after(graph)
        if folded is None:
            return graph
        graph = folded


def _is_flat_batch_norm(node: Node) -> bool:
    return isinstance(node.op, BatchNorm) and len(node.output.shape) == 1


def _scales_channels(node: Node, layer: Node | None) -> bool:
    """Whether a batch norm's channels are the first axis of the layer's weight."""
    if not isinstance(node.op, BatchNorm) or layer is None:
        return False
    return isinstance(layer.op, Conv) or (isinstance(layer.op, Linear) and len(node.output.shape) == 1)


def _fold_before(graph: Graph) -> Graph | None:
    producer, users = graph.producer(), graph.users()
    layers: dict[Value, Node] = {}
    for node in graph.nodes:
        before = producer.get(node.inputs[0]) if node.inputs else None
        if before is None or not _scales_channels(node, before):
            continue
        if len(users[before.output]) == 1 and before.output not in graph.outputs:
            layers[node.output] = before
    if not layers:
        return None
    absorbed = {layer.output: layer for layer in layers.values()}
    operands_of: dict[Value, Sequence[Value]] = {}

    def visit(builder: Builder, node: Node, operands: Sequence[Value]) -> Value | None:
        if node.output in absorbed:
            # The batch norm reads this layer's operands instead; it must see them as its own.
            operands_of[node.output] = operands
            return operands[0]
        if node.output not in layers:
            return builder.add(node.op, *operands)
        layer = layers[node.output]
        name = layer.output.name
        value, weight, *bias = operands_of[layer.output]
        scale, shift = operands[1], operands[2]
        weight = builder.add(ParameterAffine(0), weight, scale, name=f"{name}.folded_weight")
        if bias:
            shift = builder.add(ParameterAffine(), bias[0], scale, shift, name=f"{name}.folded_bias")
        with builder.at(layer.location, name):
            return builder.add(layer.op, value, weight, shift)

    return rebuild(graph, visit)


def _fold_after(graph: Graph) -> Graph | None:
    users = graph.users()
    norms = {
        node.output: node
        for node in graph.nodes
        if _is_flat_batch_norm(node)
        and node.output not in graph.outputs
        and users[node.output]
        and all(_reads_as_stream(user, node.output) for user in users[node.output])
    }
    if not norms:
        return None
    operands_of: dict[Value, Sequence[Value]] = {}

    def visit(builder: Builder, node: Node, operands: Sequence[Value]) -> Value | None:
        if node.output in norms:
            operands_of[node.output] = operands
            return operands[0]
        if not isinstance(node.op, Linear) or node.inputs[0] not in norms:
            return builder.add(node.op, *operands)
        name = node.output.name
        value, weight, *bias = operands
        _, scale, shift = operands_of[node.inputs[0]]
        scaled = builder.add(ParameterAffine(), weight, scale, name=f"{name}.folded_weight")
        moved = builder.add(ParameterProduct(), weight, shift, *bias, name=f"{name}.folded_bias")
        return builder.add(Linear(), value, scaled, moved)

    return rebuild(graph, visit)


def _reads_as_stream(user: Node, value: Value) -> bool:
    return isinstance(user.op, Linear) and user.inputs[0] == value and value not in user.inputs[1:]
