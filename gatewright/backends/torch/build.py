"""From a quantised graph to a module with its weights."""

from __future__ import annotations

from dataclasses import replace

import torch

from gatewright.backends.torch.module import Module, load_class
from gatewright.backends.torch.printer import print_module
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.constant import Constant
from gatewright.ir.types import Tensor


def build_module(graph: Graph, original: str = "") -> Module:
    """The quantised PyTorch module of a tensor-level graph, in evaluation mode, weights included.

    ``original`` is the class name of the user's model. ``print(module.code)`` shows its source.
    """
    printed = print_module(graph, original)
    module = load_class(printed.source, printed.name)()
    module.attach(printed.regions)
    for tensor in printed.tensors:
        owner_path, _, name = tensor.path.rpartition(".")
        held = getattr(module.get_submodule(owner_path), name)
        with torch.no_grad():
            held.copy_(torch.from_numpy(tensor.array.copy()))
    return module.eval()


def with_weights(graph: Graph, module: torch.nn.Module) -> Graph:
    """``graph`` with its named constants taken from ``module``, for example after training.

    Values keep their names and casts. Constants that the module does not have stay as they are.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return replace(graph, nodes=tuple(_updated(node, tensors) for node in graph.nodes))


def _updated(node: Node, tensors: dict[str, torch.Tensor]) -> Node:
    op = node.op
    if not isinstance(op, Constant) or op.source not in tensors:
        return node
    found = tensors[op.source].detach().double().cpu().numpy()
    if found.shape != op.data.shape:
        return node
    return replace(node, op=replace(op, data=Tensor(found)))
