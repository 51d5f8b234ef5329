"""prepare: the passes between import and quantisation."""

from __future__ import annotations

from gatewright.ir.graph import Graph


def prepare(graph: Graph) -> Graph:
    """The tensor-level graph ready for casts."""
    return graph
