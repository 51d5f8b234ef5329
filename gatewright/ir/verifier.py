"""The verifier: what holds for every graph between any two passes.

SSA form in topological order, unique names, types that inference gives again, expressions that are
well formed with an interval that holds on every node, codes that their format has, and at the
integer level only primitives. A violation is a fault of a pass, never of the user.
"""

from __future__ import annotations

from typing import Literal

from gatewright.diagnostics import Collector, Diagnostic, GatewrightError, diagnostic
from gatewright.ir.expressions import Expression
from gatewright.ir.formats import Exact, ScalarFormat
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import Interval
from gatewright.ir.ops.map import Map
from gatewright.ir.scalar_ops import SCALAR_OPS
from gatewright.ir.types import Type, Value

Level = Literal["tensor", "integer"]


def verify(graph: Graph, level: Level, after: str) -> Graph:
    """``graph`` itself, if it is sound at ``level``; ``after`` names the pass that made it.

    Raises GW0360 with everything found.
    """
    problems = Collector()
    checker = _Checker(graph, level, after, problems)
    checker.check_structure()
    problems.raise_if_any()
    for node in graph.nodes:
        checker.check_node(node)
    for value in graph.inputs:
        checker.check_type(value)
    problems.raise_if_any()
    return graph


class _Checker:
    """One run of the verifier."""

    def __init__(self, graph: Graph, level: Level, after: str, problems: Collector) -> None:
        self.graph = graph
        self.level = level
        self.after = after
        self.problems = problems
        self.sound: set[int] = set()

    def report(self, message: str, value: Value | None = None) -> None:
        """Record a violation."""
        self.problems.add(self.violation(message, value))

    def violation(self, message: str, value: Value | None = None) -> Diagnostic:
        """The diagnostic of a violation."""
        return diagnostic(
            "GW0360",
            f"after {self.after}, graph {self.graph.name}: {message}",
            location=value.location if value is not None else None,
            help="this is a fault of the compiler: please report the model",
        )

    # ---- structure -------------------------------------------------------------------------
    def check_structure(self) -> None:
        """Every value is defined once, before its uses, under a name of its own."""
        graph = self.graph
        defined: dict[str, Value] = {}
        for value in graph.inputs:
            self._define(value, defined)
        for node in graph.nodes:
            for operand in node.inputs:
                self._check_use(operand, defined, f"%{node.output.name}")
            self._define(node.output, defined)
        for value in graph.outputs:
            self._check_use(value, defined, "the graph's outputs")
        if len(graph.output_names) != len(graph.outputs):
            self.report(f"{len(graph.outputs)} outputs have {len(graph.output_names)} names")
        if len(set(graph.output_names)) != len(graph.output_names):
            self.report(f"output names repeat: {', '.join(graph.output_names)}")

    def _define(self, value: Value, defined: dict[str, Value]) -> None:
        if value.name in defined:
            self.report(f"%{value.name} is defined twice", value)
        defined[value.name] = value

    def _check_use(self, value: Value, defined: dict[str, Value], reader: str) -> None:
        found = defined.get(value.name)
        if found is None:
            self.report(f"%{value.name} is read by {reader} before it is defined", value)
        elif found is not value and found != value:
            self.report(f"%{value.name} is read by {reader} as {value.type}, but is {found.type}", value)

    # ---- nodes and types -------------------------------------------------------------------
    def check_node(self, node: Node) -> None:
        """The stored type is what inference gives, and the level allows the operator."""
        value = node.output
        if self.level == "integer" and not node.op.is_primitive:
            self.report(f"%{value.name}: {node.op.name} is no primitive", value)
            return
        if isinstance(node.op, Map) and not self.check_expression(node, node.op.expression):
            return
        try:
            inferred = node.op.infer(*node.inputs)
        except GatewrightError as problem:
            self.report(f"%{value.name}: {node.op.name} does not take its operands: {problem}", value)
            return
        if inferred != value.type:
            self.report(f"%{value.name} is stored as {value.type}, inferred as {inferred}", value)
        self.check_type(value)

    def check_type(self, value: Value) -> None:
        """A real value has no interval; an integer one has, within its format's codes."""
        type = value.type
        if type.is_real:
            if self.level == "integer":
                self.report(f"%{value.name} is real", value)
            return
        if type.interval is None:
            self.report(f"%{value.name} has a format, {type.format}, but no interval", value)
        elif (codes := _codes(type)) is not None and not codes.contains(type.interval):
            self.report(f"%{value.name}: {type.interval} exceeds the codes of {type.format}, {codes}", value)

    # ---- expressions -----------------------------------------------------------------------
    def check_expression(self, node: Node, expression: Expression) -> bool:
        """The operands fit the inputs, and every node's interval covers what its operands can make."""
        name = node.output.name
        if expression.inputs != len(node.inputs):
            self.report(f"%{name}: {expression.inputs} inputs for {len(node.inputs)} operands", node.output)
            return False
        before = len(self.problems.diagnostics)
        for position, inner in enumerate(expression.nodes):
            if inner.op == "input":
                index: int = inner.attributes[0]
                operand = node.inputs[index]
                if not inner.interval.contains(operand.interval):
                    self.report(f"%{name}: operand %{operand.name} exceeds {inner.interval}", node.output)
            elif any(arg >= position for arg in inner.args):
                self.report(f"%{name}: node {position} reads a later one", node.output)
        if len(self.problems.diagnostics) == before and id(expression) not in self.sound:
            self.sound.add(id(expression))
            for message in expression_problems(expression):
                self.report(f"%{name}: {message}", node.output)
        return len(self.problems.diagnostics) == before


def expression_problems(expression: Expression) -> list[str]:
    """What is wrong with the nodes themselves: unknown operations, intervals that are too small."""
    found: list[str] = []
    for position, node in enumerate(expression.nodes):
        if node.op == "input":
            continue
        if node.op == "constant":
            if node.interval != Interval.constant(node.attributes[0]):
                found.append(f"constant {node.attributes[0]} has the interval {node.interval}")
            continue
        row = SCALAR_OPS.get(node.op)
        if row is None or len(node.args) != row.arity:
            found.append(f"node {position}: no operation {node.op} of {len(node.args)} operands")
            continue
        inferred = row.infer(node.attributes, *(expression.nodes[arg].interval for arg in node.args))
        if not node.interval.contains(inferred):
            found.append(f"node {position}, {node.op}: {node.interval} does not cover {inferred}")
    return found


def _codes(type: Type) -> Interval | None:
    """All codes of a format that bounds them."""
    if isinstance(type.format, Exact) or not isinstance(type.format, ScalarFormat):
        return None
    return Interval(*type.format.code_interval())
