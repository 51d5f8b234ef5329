"""prepare: the passes between import and quantisation."""

from __future__ import annotations

from gatewright.ir.graph import Graph
from gatewright.ir.transforms.fold_batch_norm import fold_batch_norm
from gatewright.ir.transforms.simplify import simplify


def prepare(graph: Graph) -> Graph:
    """The tensor-level graph ready for casts: simplified, batch norms folded into their neighbours."""
    return simplify(fold_batch_norm(simplify(graph)))
