"""fold_batch_norm: batch norms become part of the linear layer or convolution before or after them.

The layer's weight and bias are then computed from the original parameters by operators on parameters,
so that the printed module still has, and trains, the parameters of the model by their names.
"""

from __future__ import annotations

from collections.abc import Sequence

from gatewright.ir.builder import Builder
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.batch_norm import BatchNorm
from gatewright.ir.ops.conv import Conv
from gatewright.ir.ops.conv_transpose import ConvTranspose
from gatewright.ir.ops.linear import Linear
from gatewright.ir.ops.parameter_affine import ParameterAffine
from gatewright.ir.ops.parameter_offset import ParameterOffset
from gatewright.ir.ops.parameter_product import ParameterProduct
from gatewright.ir.ops.parameter_scale import ParameterScale
from gatewright.ir.transforms.rebuild import rebuild
from gatewright.ir.types import Value


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold every batch norm that can be folded; the others stay as an affine map per channel.

    Before: a convolution, transposed or not, or a linear layer, whose result only the batch norm reads. After: linear
    layers and convolutions that are its only readers; a convolution only without padding, for beyond the edge
    stand zeros, which the batch norm does not move. (A transposed convolution sees such zeros everywhere.) Around
    linear layers the channels must be the features, that is, the only axis of a sample.
    """
    while True:
        folded = _fold_before(graph) or _fold_after(graph)
        if folded is None:
            return graph
        graph = folded


def _scales_channels(node: Node, layer: Node | None) -> bool:
    """Whether a batch norm's channels are the outputs of the layer's weight."""
    if not isinstance(node.op, BatchNorm) or layer is None:
        return False
    if isinstance(layer.op, Conv | ConvTranspose):
        return True
    return isinstance(layer.op, Linear) and len(node.output.shape) == 1


def _scaled_outputs(builder: Builder, layer: Node, weight: Value, scale: Value, name: str) -> Value:
    """The weight with every output channel times its scale."""
    if isinstance(layer.op, ConvTranspose):
        channels, outputs, *kernel = weight.shape
        groups = layer.op.groups
        split = (groups, channels // groups, outputs, *kernel)
        spread = (groups, 1, outputs, *(1 for _ in kernel))
        return builder.add(ParameterScale(split, spread), weight, scale, name=name)
    return builder.add(ParameterAffine(0), weight, scale, name=name)


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
        weight = _scaled_outputs(builder, layer, weight, scale, f"{name}.folded_weight")
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
        if isinstance(node.op, BatchNorm)
        and node.output not in graph.outputs
        and users[node.output]
        and all(_absorbs(user, node.output) for user in users[node.output])
    }
    if not norms:
        return None
    operands_of: dict[Value, Sequence[Value]] = {}

    def visit(builder: Builder, node: Node, operands: Sequence[Value]) -> Value | None:
        if node.output in norms:
            operands_of[node.output] = operands
            return operands[0]
        op = node.op
        if not isinstance(op, Linear | Conv) or node.inputs[0] not in norms:
            return builder.add(op, *operands)
        name = node.output.name
        value, weight, *bias = operands
        _, scale, shift = operands_of[node.inputs[0]]
        if isinstance(op, Linear):
            scaled = builder.add(ParameterAffine(), weight, scale, name=f"{name}.folded_weight")
            moved = builder.add(ParameterProduct(), weight, shift, *bias, name=f"{name}.folded_bias")
            return builder.add(op, value, scaled, moved)
        outputs, inputs, *kernel = weight.shape
        split = (op.groups, outputs // op.groups, inputs, *kernel)
        spread = (op.groups, 1, inputs, *(1 for _ in kernel))
        scaled = builder.add(ParameterScale(split, spread), weight, scale, name=f"{name}.folded_weight")
        moved = builder.add(ParameterOffset(op.groups), weight, shift, *bias, name=f"{name}.folded_bias")
        return builder.add(op, value, scaled, moved)

    return rebuild(graph, visit)


def _absorbs(user: Node, norm: Value) -> bool:
    """Whether a layer that reads a batch norm can take it into its own parameters."""
    if user.inputs[0] != norm or norm in user.inputs[1:]:
        return False
    if isinstance(user.op, Conv):
        return all(amounts == (0, 0) for amounts in user.op.padding)
    return isinstance(user.op, Linear) and len(norm.shape) == 1
