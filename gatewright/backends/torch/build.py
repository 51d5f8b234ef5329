"""From a quantised graph to a module with its weights."""

from __future__ import annotations

import torch

from gatewright.backends.torch.module import Module, load_class
from gatewright.backends.torch.printer import print_module
from gatewright.ir.graph import Graph


def build_module(graph: Graph, original: str = "") -> Module:
    """The quantised PyTorch module of a tensor-level graph, in evaluation mode, weights included.

    ``original`` is the class name of the user's model. ``print(module.code)`` shows its source.
    """
    printed = print_module(graph, original)
    module = load_class(printed.source, printed.name)()
    for tensor in printed.tensors:
        owner_path, _, name = tensor.path.rpartition(".")
        held = getattr(module.get_submodule(owner_path), name)
        with torch.no_grad():
            held.copy_(torch.from_numpy(tensor.array.copy()))
    return module.eval()
