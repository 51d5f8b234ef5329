"""prepare: the passes between import and quantisation."""

from __future__ import annotations

from gatewright.ir.graph import Graph
from gatewright.ir.transforms.fold_batch_norm import fold_batch_norm
from gatewright.ir.transforms.simplify import simplify


def prepare(graph: Graph) -> Graph:
    """The tensor-level graph ready for casts: movements joined, batch norms folded where they can be."""
    return simplify(fold_batch_norm(simplify(graph)))
