"""quantise: give every operand that needs one a visible cast, as the user's ``formats`` say.

Operands are cast by the operator's roles: ``input`` where the operand streams, ``weight`` (or ``bias``)
where it is constant. An exact result flows on uncast until an operand that has a role. A function with a
result role takes the ``output`` cast if the user gave one, else its ``input`` cast. Casts that the model
carries itself are kept, and one directly behind a function becomes the function's own.

Ports: a model input is cast once, where it enters. Its format is, in this order, the ``input`` role of a
name rule for the input itself; the one cast that all its readers ask for; the default ``input`` role.
Readers that ask for another format cast again; where the input has a rule of its own, only readers with
a rule by name do. A block format is cast where a product reads it, behind reshapes and permutations: only there
is it known along which axis its blocks lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from gatewright.backends.torch.precision import Precision, precisions
from gatewright.backends.torch.texts import MOVEMENTS, result_cast, streams_of, with_result
from gatewright.diagnostics import Collector, diagnostic, error
from gatewright.frontend.accumulators import NUMBER, accumulator, with_accumulators
from gatewright.frontend.block_axes import BlockAxes
from gatewright.frontend.calibrate import Site, choose_fractions, read_batches
from gatewright.frontend.constants import constant_arrays, lossless_cast, range_problem
from gatewright.frontend.formats_config import FormatsArgument, Rules, check_matches, read_formats
from gatewright.ir.builder import Builder
from gatewright.ir.formats import Block, CastSpec, Fixed, Real
from gatewright.ir.graph import Graph, Node
from gatewright.ir.operator import Operator
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.parameter_reshape import ParameterReshape
from gatewright.ir.types import Value
from gatewright.ir.unary import TABLE_BITS


def quantise(graph: Graph, formats: FormatsArgument, calibration: Iterable[Any] | None = None) -> Graph:
    """The graph with a cast on every operand that needs one; values keep their names.

    ``formats`` is described in :mod:`gatewright.frontend.formats_config`; None keeps to the casts of
    the model. ``calibration`` are batches of inputs, needed where an activation's format is ``auto``.
    Raises ``GatewrightError`` with everything found: rules that match nothing (GW0227), operands
    without a cast (GW0228), constants that do not fit (GW0229), calibration data that is missing or
    does not fit (GW0230, GW0231), an input with several formats (GW0232).
    """
    rules = Rules({}) if formats is None else read_formats(formats)
    problems = Collector()
    check_matches(rules, graph, problems)
    plan = _Planner(graph, rules, formats is None, problems).plan()
    problems.raise_if_any()
    chosen = _resolve(graph, plan, calibration)
    quantised = _with_domains(_rebuild(graph, plan, chosen, _numbers(graph, rules)))
    return with_accumulators(quantised, rules, constant_arrays(quantised))


@dataclass(slots=True)
class Plan:
    """The casts to insert: on operands (by node position and index), on results, in functions, at ports."""

    operands: dict[tuple[int, int], CastSpec] = field(default_factory=dict[tuple[int, int], CastSpec])
    outputs: dict[Value, CastSpec] = field(default_factory=dict[Value, CastSpec])
    functions: dict[Value, CastSpec] = field(default_factory=dict[Value, CastSpec])
    ports: dict[Value, CastSpec] = field(default_factory=dict[Value, CastSpec])

    def sites(self, graph: Graph) -> list[Site]:
        """Every value and cast whose fraction bits are to be chosen, each once."""
        found: dict[Site, None] = {}
        for (position, index), spec in self.operands.items():
            found[graph.nodes[position].inputs[index], spec] = None
        for group in (self.outputs, self.functions, self.ports):
            for value, spec in group.items():
                found[value, spec] = None
        return [site for site in found if site[1].format.is_auto]


class _Planner:
    """Walks the graph once and decides every cast; ``state`` says what is known about each value.

    A value's state is the cast that it went through last, ``True`` where it is exact (computed from cast
    values without loss), and ``False`` where it is still real.
    """

    def __init__(self, graph: Graph, rules: Rules, by_model: bool, problems: Collector) -> None:
        self.graph = graph
        self.rules = rules
        self.by_model = by_model
        self.problems = problems
        self.streams = streams_of(graph)
        self.users = graph.users()
        self.producer = graph.producer()
        self.constants = constant_arrays(graph)
        self.state: dict[Value, CastSpec | bool] = {}
        self.named_ports: set[Value] = set()
        self.waiting: dict[Value, CastSpec] = {}  # ports in a block format, which their readers cast
        self.lacking: list[tuple[Node, int, str]] = []
        self.result = Plan()

    def plan(self) -> Plan:
        """The whole plan; problems are recorded with the collector."""
        for value in self.graph.inputs:
            self._plan_port(value)
        for position, node in enumerate(self.graph.nodes):
            self._plan_node(position, node)
        self._report_lacking()
        return self.result

    def _plan_port(self, value: Value) -> None:
        wanted, by_model = self._readers(value)
        spec = self.rules.for_input(value)
        if spec is not None:
            self.named_ports.add(value)
        elif by_model:
            spec = by_model[0] if len(set(by_model)) == 1 else None
        else:
            unique = list(dict.fromkeys(wanted))
            spec = unique[0] if len(unique) == 1 else self.rules.default.get("input")
            if spec is None and unique:
                self.problems.add(
                    diagnostic(
                        "GW0232",
                        f"input {value.name} is read in {len(unique)} formats: {', '.join(map(str, unique))}",
                        location=value.location,
                        note="one port carries one format",
                        help=f'choose it with [name."{value.name}"] input = "...", or with [default] input',
                    )
                )
        self.state[value] = False
        if spec is not None and isinstance(spec.format, Block) and not self._leaves(value):
            self.waiting[value] = spec
        elif spec is not None and not isinstance(spec.format, Real):
            self.result.ports[value] = spec
            self.state[value] = spec

    def _leaves(self, value: Value) -> bool:
        """Whether a value is an output of the model, behind operators that only move elements."""
        moved = (node.output for node in self.users[value] if isinstance(node.op, MOVEMENTS))
        return value in self.graph.outputs or any(self._leaves(each) for each in moved)

    def _readers(self, value: Value) -> tuple[list[CastSpec], list[CastSpec]]:
        """The casts that readers of an input ask for: by rules, and by the model's own cast operators."""
        wanted: list[CastSpec] = []
        by_model: list[CastSpec] = []
        pending, seen = [value], {value}
        while pending:
            current = pending.pop()
            for node in self.users[current]:
                if isinstance(node.op, Cast):
                    by_model.append(node.op.spec)
                    continue
                for index, operand in enumerate(node.inputs):
                    if operand != current:
                        continue
                    if _role(node, index) is None:
                        pending += [node.output] if node.output not in seen else []
                        seen.add(node.output)
                    elif (spec := self.rules.for_node("input", node)) and not isinstance(spec.format, Real):
                        wanted.append(spec)
        return wanted, by_model

    def _plan_node(self, position: int, node: Node) -> None:
        op = node.op
        if isinstance(op, Constant):
            self.state[node.output] = False if isinstance(op.format, Real) else CastSpec(op.format)
            return
        if isinstance(op, Cast):
            self.state[node.output] = op.spec
            return
        if node.output not in self.streams:
            single = isinstance(op, ParameterReshape) and node.inputs[0].size == 1
            self.state[node.output] = self.state[node.inputs[0]] if single else False
            return
        states = [self._plan_operand(position, node, index) for index in range(len(node.inputs))]
        if isinstance(node.op, MOVEMENTS) and self.named_ports.issuperset(node.inputs):
            self.named_ports.add(node.output)
        if isinstance(node.op, MOVEMENTS) and node.inputs[0] in self.waiting:
            self.waiting[node.output] = self.waiting[node.inputs[0]]
        self.state[node.output] = _result_state(node, states)
        if op.result_role is not None:
            self._plan_function(node)
        elif (spec := self.rules.for_node("output", node)) and not isinstance(spec.format, Real):
            self.result.outputs[node.output] = spec
            self.state[node.output] = spec

    def _plan_operand(self, position: int, node: Node, index: int) -> CastSpec | bool:
        """Decide the cast of one operand; the operand's state after it."""
        value = node.inputs[index]
        role = _role(node, index)
        if value not in self.streams:
            return self._plan_constant(position, node, index, role)
        if role is None and value in self.waiting and not isinstance(node.op, MOVEMENTS):
            return self._insert(position, index, self.waiting[value])
        if role is None or self._cast_by_model(value):
            return self.state[value]
        rules = self.rules.by_name() if value in self.named_ports else self.rules
        spec = rules.for_node("input", node) or self.waiting.get(value)
        if spec is None:
            if self.state[value] is False:
                self.lacking.append((node, index, "input"))
            return self.state[value]
        return self._insert(position, index, spec)

    def _plan_constant(self, position: int, node: Node, index: int, role: str | None) -> CastSpec | bool:
        value = node.inputs[index]
        if self.state[value] is not False:
            return self.state[value]
        array = self.constants[value]
        if role not in ("weight", "bias") or array.size == 1 or self.by_model:
            lossless = None if self._is_trainable(value) else lossless_cast(array)
            if lossless is not None:
                return self._insert(position, index, lossless)
            role = role if role in ("weight", "bias") else "weight"
        spec = self.rules.for_node(role, node)
        if spec is None:
            self.lacking.append((node, index, role))
            return False
        problem = range_problem(array, spec, value, role, node)
        if problem is not None:
            self.problems.add(problem)
        return self._insert(position, index, spec)

    def _insert(self, position: int, index: int, spec: CastSpec) -> CastSpec | bool:
        if isinstance(spec.format, Real):
            return False
        self.result.operands[position, index] = spec
        return spec

    def _plan_function(self, node: Node) -> None:
        own = result_cast(node.op)
        spec = own or self._absorbed(node.output)
        if spec is None:
            spec = self.rules.for_node("output", node) or self.rules.for_node("input", node)
        if spec is None:
            self.lacking.append((node, -1, "output"))
        elif not isinstance(spec.format, Real):
            self.result.functions[node.output] = spec
            self.state[node.output] = spec

    def _absorbed(self, value: Value) -> CastSpec | None:
        """The model's own cast of a function's result, where every reader is that cast."""
        specs = {node.op.spec if isinstance(node.op, Cast) else None for node in self.users[value]}
        return next(iter(specs)) if len(specs) == 1 and value not in self.graph.outputs else None

    def _cast_by_model(self, value: Value) -> bool:
        node = self.producer.get(value)
        while node is not None and isinstance(node.op, MOVEMENTS) and len(node.inputs) == 1:
            node = self.producer.get(node.inputs[0])
        return node is not None and isinstance(node.op, Cast)

    def _is_trainable(self, value: Value) -> bool:
        node = self.producer.get(value)
        if node is None:
            return False
        if isinstance(node.op, Constant):
            return node.op.trainable
        return any(self._is_trainable(each) for each in node.inputs)

    def _report_lacking(self) -> None:
        if not self.lacking:
            return
        lines = [f"{_place(node)}: {_operand(node, index)} needs role {role}" for node, index, role in self.lacking]
        some = "operand has" if len(lines) == 1 else "operands have"
        first = self.lacking[0]
        self.problems.add(
            diagnostic(
                "GW0228",
                f"{len(lines)} {some} no cast",
                location=first[0].location,
                note=lines,
                help="put gw.cast(...) on them in the model, or pass formats"
                if self.by_model
                else f'add the role, for example [default] {first[2]} = "fixed<8,auto>"',
            )
        )


def _role(node: Node, index: int) -> str | None:
    roles = node.op.roles
    return roles[min(index, len(roles) - 1)]


def _result_state(node: Node, states: list[CastSpec | bool]) -> CastSpec | bool:
    if not states or any(state is False for state in states):
        return False
    first = states[0]
    moved = isinstance(node.op, MOVEMENTS) and all(state == first for state in states)
    return first if moved else True


def _place(node: Node) -> str:
    return f"{node.location.module or node.output.name} ({node.op.name})"


def _operand(node: Node, index: int) -> str:
    return "the result" if index < 0 else f"operand {node.inputs[index].name}"


def _resolve(graph: Graph, plan: Plan, calibration: Iterable[Any] | None) -> dict[Site, CastSpec]:
    """The chosen cast of every site left open; GW0231 where activations need data and have none."""
    sites = plan.sites(graph)
    streams = streams_of(graph)
    open_streams = [value for value, _ in sites if value in streams]
    if open_streams and calibration is None:
        shown = ", ".join(dict.fromkeys(value.name for value in open_streams[:6]))
        shown += ", ..." if len(open_streams) > 6 else ""
        raise error(
            "GW0231",
            "auto fraction bits of activations need calibration data",
            note=f"{len(open_streams)} casts are open: {shown}",
            help="pass calibration=[batch, ...] of typical inputs, or write the bits, as in fixed<8,4>",
        )
    batches = read_batches(graph, calibration) if open_streams and calibration is not None else []
    return choose_fractions(graph, sites, batches)


def _numbers(graph: Graph, rules: Rules) -> dict[Value, CastSpec]:
    """By result of every operator that makes no product: the window in which it reads operands in a block format."""
    problems = Collector()
    nodes = [node for node in graph.nodes if not isinstance(node.op, (Cast, Constant, *MOVEMENTS))]
    found = {node.output: accumulator(rules, node, problems) or NUMBER for node in nodes if not node.op.takes_blocks(0)}
    problems.raise_if_any()
    return found


def _rebuild(graph: Graph, plan: Plan, chosen: dict[Site, CastSpec], numbers: dict[Value, CastSpec]) -> Graph:
    """The graph again, with the planned casts in place; ``numbers`` are the windows of operands in blocks."""
    builder = Builder(graph.name)
    axes = BlockAxes(graph)
    streams = streams_of(graph)
    state: dict[Value, Cast] = {}
    values: dict[Value, Value] = {}

    def cast(value: Value, old: Value, op: Cast) -> Value:
        if state.get(value) == op:
            return value
        result = builder.add(op, value, name=f"{old.name}_cast")
        state[result] = op
        return result

    def operand(node: Node, position: int, index: int) -> Value:
        old = node.inputs[index]
        value = values[old]
        if (position, index) in plan.operands:
            spec = plan.operands[position, index]
            if (
                not old.shape and isinstance(spec.format, Block) and old not in streams
            ):  # one number is a block of its own; a block lies along an axis
                value = builder.add(ParameterReshape((1,) * len(spec.format.sizes)), value, name=f"{old.name}_block")
            value = cast(value, old, axes.cast(chosen.get((old, spec), spec), node, index))
        known = state.get(value)
        if node.output in numbers and known is not None and isinstance(known.spec.format, Block) and old in streams:
            value = cast(value, old, Cast(numbers[node.output]))
        return value if value.shape == old.shape else builder.add(ParameterReshape(old.shape), value)

    for value in graph.inputs:
        with builder.at(value.location, value.name):
            values[value] = builder.input(value.name, value.type)
            if value in plan.ports:
                spec = plan.ports[value]
                values[value] = cast(values[value], value, Cast(chosen.get((value, spec), spec)))
    for position, node in enumerate(graph.nodes):
        with builder.at(node.location, node.output.name):
            operands = [operand(node, position, index) for index in range(len(node.inputs))]
            op = node.op
            if isinstance(op, Cast) and state.get(operands[0]) == op:
                values[node.output] = operands[0]
                continue
            if node.output in plan.functions:
                spec = plan.functions[node.output]
                op = with_result(op, chosen.get((node.output, spec), spec))
            result = builder.add(op, *operands, name=node.output.name)
            _remember(op, operands, result, state)
            if node.output in plan.outputs:
                spec = plan.outputs[node.output]
                result = cast(result, node.output, axes.cast(chosen.get((node.output, spec), spec), node, -1))
            values[node.output] = result
    return builder.finish([values[value] for value in graph.outputs], graph.output_names)


def _remember(op: Operator, operands: list[Value], result: Value, state: dict[Value, Cast]) -> None:
    """Note the cast that a new value went through last, so that an equal one is not added again."""
    spec = result_cast(op)
    found = op if isinstance(op, Cast) else None if spec is None else Cast(spec)
    if found is None and isinstance(op, MOVEMENTS) and operands:
        casts = {state.get(each) for each in operands}
        found = next(iter(casts)) if len(casts) == 1 else None
        # Blocks do not lie along the same axis any more.
        found = None if found is not None and isinstance(found.spec.format, Block) else found
    if found is not None:
        state[result] = found


def _with_domains(graph: Graph) -> Graph:
    """The graph with every function made for all codes that the formats allow at its operand.

    A table of a whole format is the same in any case; polynomials over a range depend on the range.
    """
    if not any(hasattr(node.op, "domain") for node in graph.nodes):
        return graph
    known = precisions(graph)
    return replace(graph, nodes=tuple(_with_domain(node, known) for node in graph.nodes))


def _with_domain(node: Node, known: dict[Value, Precision]) -> Node:
    if not hasattr(node.op, "domain") or result_cast(node.op) is None:
        return node
    operand = known[node.inputs[0]].type
    if operand.interval is None:
        return node
    interval = operand.interval
    if isinstance(operand.format, Fixed) and operand.format.width <= TABLE_BITS:
        return node
    op: Any = node.op
    return replace(node, op=replace(op, domain=(interval.low, interval.high)))
