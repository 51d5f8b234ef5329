"""The readable text form of a graph: one node a line, aligned, with the user's layer at the end."""

from __future__ import annotations

from gatewright.ir.graph import Graph, Node
from gatewright.ir.types import Value


def print_value(value: Value) -> str:
    """A value with its type: ``%x : [64] fixed<8,4> [-128, 127]``."""
    return f"%{value.name} : {value.type}"


def print_node(node: Node) -> str:
    """``%h : type = op attributes %a, %b``."""
    operands = ", ".join(f"%{value.name}" for value in node.inputs)
    parts = [node.op.name, node.op.text(), operands]
    return f"{print_value(node.output)} = {' '.join(part for part in parts if part)}"


def print_graph(graph: Graph) -> str:
    """The whole graph; stable from run to run."""
    lines = [f"graph {graph.name} {{"]
    rows = [(f"{print_value(value)} = input", "") for value in graph.inputs]
    rows += [(print_node(node), node.location.module) for node in graph.nodes]
    for text, module in rows:
        lines.append(f"  {text}  # {module}" if module else f"  {text}")
    outputs = ", ".join(
        f"{name} = %{value.name}" for name, value in zip(graph.output_names, graph.outputs, strict=True)
    )
    return "\n".join([*lines, f"  return {outputs}", "}"])
