"""Imports a PyTorch model as a tensor-level graph; nothing here knows any single operator.

The exported graph is walked once. Beside the graph under construction the importer runs every call
concretely, in float64, on the example inputs: this folds what depends on constants only, and every
imported operator's own PyTorch text is compared with it, so that a misread call is an error here
and never a wrong result later.
"""

from __future__ import annotations

import operator
import warnings
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.fx.node import map_arg

from gatewright.diagnostics import Collector, GatewrightError, diagnostic, error
from gatewright.frontend.arguments import is_mutating, is_overload, named_arguments, target_name
from gatewright.frontend.check import agrees, run_text
from gatewright.frontend.locations import module_class, module_path, node_location
from gatewright.frontend.ports import input_names, output_names
from gatewright.frontend.support import is_random, unsupported
from gatewright.frontend.trace import ExampleInputs, export_program, split_example
from gatewright.ir.aten import AtenCall
from gatewright.ir.builder import Builder
from gatewright.ir.formats import Real
from gatewright.ir.graph import Graph
from gatewright.ir.operator import operators
from gatewright.ir.ops.constant import Constant
from gatewright.ir.types import Tensor, Type, Value


def import_model(
    model: torch.nn.Module | ExportedProgram, example_inputs: ExampleInputs, name: str | None = None
) -> Graph:
    """The tensor-level graph of a model: real values, per sample, batch implicit.

    ``example_inputs`` is a tuple or a dict of tensors with a leading batch. Raises
    ``GatewrightError`` with everything that cannot be imported; see :mod:`gatewright.frontend.trace`
    for the errors of tracing.
    """
    program = export_program(model, example_inputs)
    args, kwargs = split_example(model, example_inputs)
    inputs = [*args, *kwargs.values()]
    name = name or type(model).__name__
    try:
        return _Importer(program, inputs, name).run()
    except _AliasedWriteError:
        # PyTorch's own functionalisation rewrites views; it loses dropout, so it is the second choice.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            functional = program.run_decompositions({})
        return _Importer(functional, inputs, name).run()


class _AliasedWriteError(Exception):
    """An in-place call writes memory that a later call reads through another tensor."""


@dataclass(slots=True)
class _Known:
    """A constant of the model: not dependent on any input."""

    name: str = ""
    trainable: bool = False
    persistent: bool = False
    value: Value | None = None


class _Poisoned:
    """The result of a call that could not be imported; its own diagnostic says why."""


_POISONED = _Poisoned()
_Entry = Value | _Known | _Poisoned | tuple[Any, ...] | None


class _Importer:
    """One import. ``_entries`` holds what each exported node became, ``_concrete`` its value in float64."""

    def __init__(self, program: ExportedProgram, inputs: list[torch.Tensor], name: str) -> None:
        self._program = program
        self._builder = Builder(name)
        self._problems = Collector()
        self._entries: dict[Node, _Entry] = {}
        self._concrete: dict[Node, Any] = {}
        self._evaluated: dict[Value, torch.Tensor] = {}
        self._by_name = {aten: cls for cls in operators().values() for aten in cls.aten}
        self._unsupported: dict[str, list[Node]] = {}
        self._inputs = inputs
        self._batch = int(inputs[0].shape[0])
        self._order = {node: position for position, node in enumerate(program.graph.nodes)}

    def run(self) -> Graph:
        """Walk the exported graph and build the imported one."""
        with torch.no_grad():
            self._placeholders()
            output: Node | None = None
            for node in self._program.graph.nodes:
                if node.op == "output":
                    output = node
                elif node.op != "placeholder":
                    self._visit(node)
        for target, nodes in self._unsupported.items():
            self._problems.add(unsupported(target, nodes, self._by_name))
        self._problems.raise_if_any()
        assert output is not None
        return self._finish(output)

    # ---- leaves ----------------------------------------------------------------------------
    def _placeholders(self) -> None:
        tensors: dict[str, Any] = {**self._program.constants, **self._program.state_dict}
        inputs = iter(self._inputs)
        names = input_names(self._program)
        specs = {spec.arg.name: spec for spec in self._program.graph_signature.input_specs}
        for node in self._program.graph.nodes:
            if node.op != "placeholder":
                continue
            spec = specs[node.name]
            if spec.kind == InputKind.USER_INPUT:
                tensor = _as_double(next(inputs).detach().clone())
                value = self._builder.input(names[node.name], Type(tuple(tensor.shape[1:])))
                self._entries[node], self._concrete[node], self._evaluated[value] = value, tensor, tensor
            else:
                source = str(spec.target)
                trainable = spec.kind == InputKind.PARAMETER
                state = trainable or (spec.kind == InputKind.BUFFER and bool(spec.persistent))
                found = tensors[source]
                self._concrete[node] = _as_double(found.detach().clone()) if torch.is_tensor(found) else found
                self._entries[node] = _Known(source, trainable, state)

    def _value(self, node: Node) -> Any:
        """What an argument that is a node looks like to an operator."""
        entry = self._entries[node]
        if not isinstance(entry, _Known):
            return entry
        concrete = self._concrete[node]
        if not torch.is_tensor(concrete):
            return concrete
        if entry.value is None:
            source = entry.name if entry.persistent else ""
            op = Constant(Tensor(concrete.numpy()), Real(), source=source, trainable=entry.trainable)
            entry.value = self._builder.add(op, name=entry.name or node.name)
        self._evaluated[entry.value] = concrete
        return entry.value

    # ---- calls -----------------------------------------------------------------------------
    def _visit(self, node: Node) -> None:
        operands = [self._entries[each] for each in node.all_input_nodes]
        if any(isinstance(each, _Poisoned) for each in operands):
            self._entries[node] = _POISONED
            if is_overload(node.target) and target_name(node.target) not in self._by_name:
                self._reject(node)
            return
        if self._ignores_values(node):
            operands = operands[1:]
        streams = any(not isinstance(each, _Known) for each in operands)
        if node.target is operator.getitem:
            self._getitem(node, streams)
            return
        if node.op != "call_function" or not self._can_run(node, streams):
            self._reject(node)
            return
        scale = self._scale(node)
        if not _returns_anything(node):
            self._entries[node] = None  # an assertion; its condition held while tracing
            return
        shared = self._shared_memory(node) if is_mutating(node.target) else []
        try:
            self._concrete[node] = self._run(node)
        except Exception as problem:
            raise error(
                "GW0101",
                f"{node.target} fails on the example inputs: {problem}",
                location=node_location(node),
                help="pass example inputs that the program was exported with",
            ) from problem
        if not _has_tensor(self._concrete[node]) or not streams:
            self._entries[node] = self._parameter_view(node) if not streams else _Known()
        else:
            self._entries[node] = self._import(node, scale)
        for other in shared:
            self._entries[other] = self._entries[node]

    def _ignores_values(self, node: Node) -> bool:
        """Whether only the shape of the first operand matters, as in ``zeros_like``."""
        cls = self._by_name.get(target_name(node.target))
        return cls is not None and cls.ignores_values

    def _can_run(self, node: Node, streams: bool) -> bool:
        if target_name(node.target) in self._by_name:
            return True
        return not _has_tensor(node.meta.get("val")) if streams else not is_random(node)

    def _reject(self, node: Node) -> None:
        self._unsupported.setdefault(target_name(node.target), []).append(node)
        self._entries[node] = _POISONED

    def _getitem(self, node: Node, streams: bool) -> None:
        source, index = cast(Node, node.args[0]), cast(int, node.args[1])
        self._concrete[node] = self._concrete[source][index]
        entry = self._entries[source]
        self._entries[node] = cast(tuple[Value | None, ...], entry)[index] if streams else _Known()
        if self._entries[node] is None and node.users:
            self._entries[node] = _POISONED
            self._problems.add(
                diagnostic(
                    "GW0107",
                    f"{target_name(source.target)}: result {index} is not supported",
                    location=node_location(source),
                    note="only its first result has hardware",
                    help="do not use the other results",
                )
            )

    def _run(self, node: Node) -> Any:
        """The call in float64 on the example; in-place calls write their operand, as in PyTorch."""
        args = map_arg(node.args, lambda each: self._concrete[each])
        kwargs = map_arg(node.kwargs, lambda each: self._concrete[each])
        return _as_double(cast(Any, node.target)(*args, **kwargs))

    def _import(self, node: Node, scale: float) -> _Entry:
        with self._builder.at(node_location(node), self._hint(node)):
            arguments = named_arguments(node, self._value)
            call = self._call(node, arguments)
            before = len(self._builder.nodes)
            try:
                result = self._by_name[call.target].from_aten(call)
                self._evaluate_from(before)
                self._check(node, call, result, scale)
            except GatewrightError as problem:
                self._problems.add(problem)
                return _POISONED
        return result

    def _call(self, node: Node, arguments: dict[str, Any]) -> AtenCall:
        return AtenCall(
            target_name(node.target),
            arguments,
            self._builder,
            node_location(node),
            _shapes(self._concrete[node]),
            self._batch,
            self._hint(node),
        )

    def _parameter_view(self, node: Node) -> _Known:
        """A constant computed from constants; a view of a parameter stays tied to its name."""
        sources = [(each, self._entries[each]) for each in node.all_input_nodes]
        cls = self._by_name.get(target_name(node.target))
        trainable = len(sources) == 1 and isinstance(sources[0][1], _Known) and sources[0][1].trainable
        if not trainable or cls is None or not cls.on_parameters:
            return _Known()
        with self._builder.at(node_location(node), self._hint(node)):
            arguments = named_arguments(node, self._value)
            call = self._call(node, arguments)
            before = len(self._builder.nodes)
            value = cast(Value, cls.from_aten(call))
            self._evaluate_from(before)
            self._check(node, call, value, 0.0)
        return _Known(trainable=True, value=value)

    # ---- checks ----------------------------------------------------------------------------
    def _evaluate_from(self, before: int) -> None:
        for added in self._builder.nodes[before:]:
            if added.output not in self._evaluated:
                streams = {each for each in (*added.inputs, added.output) if self._builder.is_stream(each)}
                self._evaluated[added.output] = run_text(added, self._evaluated, streams)

    def _check(self, node: Node, call: AtenCall, result: Value | tuple[Value | None, ...], scale: float) -> None:
        """Whether the imported values equal PyTorch's on the example; GW0199 otherwise."""
        values = result if isinstance(result, tuple) else (result,)
        concrete: Any = self._concrete[node]
        expected = cast(list[Any], concrete if isinstance(concrete, (list, tuple)) else [concrete])
        for index, (value, tensor) in enumerate(zip(values, expected, strict=True)):
            if value is None:
                continue
            if self._builder.is_stream(value):
                call.result_shape(index)
            if not agrees(self._evaluated[value], tensor, scale):
                raise error(
                    "GW0199",
                    f"internal error: aten.{call.target} was imported wrongly",
                    location=call.location,
                    note=f"{value.name} is {list(self._evaluated[value].shape)}, "
                    f"PyTorch's result is {list(tensor.shape)}; or their values differ",
                    help="report this with the model's source line",
                )
            self._evaluated[value] = tensor

    def _scale(self, node: Node) -> float:
        tensors = [self._concrete[each] for each in node.all_input_nodes]
        finite = [
            tensor[torch.isfinite(tensor)].abs()
            for tensor in tensors
            if torch.is_tensor(tensor) and torch.is_floating_point(tensor)
        ]
        return max((float(each.max()) for each in finite if each.numel()), default=0.0)

    def _shared_memory(self, node: Node) -> list[Node]:
        """The nodes that an in-place call changes because they are the very tensor that it writes."""
        written = self._concrete[cast(Node, node.args[0])]
        same: list[Node] = []
        for other, tensor in self._concrete.items():
            if not torch.is_tensor(tensor) or not _same_storage(tensor, written):
                continue
            entry = self._entries[other]
            if isinstance(entry, _Known) and entry.name:
                raise error(
                    "GW0109",
                    f"the model changes its own {entry.name} while it runs",
                    location=node_location(node),
                    note="in hardware every sample is computed by itself: nothing is kept in between",
                    help="use evaluation semantics, or pass the state in as an input and out as an output",
                )
            if tensor.shape == written.shape and tensor.stride() == written.stride():
                same.append(other)
            elif any(self._order[user] > self._order[node] for user in other.users):
                raise _AliasedWriteError
        for value, tensor in self._evaluated.items():
            if _same_storage(tensor, written):
                self._evaluated[value] = tensor.clone()
        return same

    # ---- names -----------------------------------------------------------------------------
    def _hint(self, node: Node) -> str:
        path = module_path(node)
        if not path:
            return node.name
        return path if module_class(node).startswith("torch.nn.modules.") else f"{path}.{node.name}"

    def _finish(self, output: Node) -> Graph:
        names = output_names(self._program)
        found: list[Value] = []
        shown: list[str] = []
        for name, node in zip(names, cast(tuple[Any, ...], output.args[0]), strict=True):
            if node is None:
                continue
            value = self._entries[node] if isinstance(node, Node) else None
            if not isinstance(value, Value):
                self._problems.add(
                    diagnostic(
                        "GW0110",
                        f"output {name} does not depend on any input",
                        location=node_location(node) if isinstance(node, Node) else None,
                        note="it is the same for every sample, so there is nothing to compute in hardware",
                        help="leave it out of what forward returns",
                    )
                )
                continue
            found.append(value)
            shown.append(name)
        self._problems.raise_if_any()
        return self._builder.finish(found, shown)


def _as_double(value: Any) -> Any:
    """Floating-point tensors in float64, in lists and tuples too."""
    if isinstance(value, torch.Tensor):
        return value.double() if torch.is_floating_point(value) else value
    if isinstance(value, (list, tuple)):
        return tuple(_as_double(each) for each in cast(list[Any], value))
    return value


def _has_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_has_tensor(each) for each in cast(list[Any], value))
    return isinstance(value, torch.Tensor)


def _shapes(value: Any) -> tuple[tuple[int, ...], ...]:
    tensors = cast(list[Any], value) if isinstance(value, (list, tuple)) else [value]
    return tuple(tuple(int(size) for size in each.shape) for each in tensors if isinstance(each, torch.Tensor))


def _returns_anything(node: Node) -> bool:
    return not is_overload(node.target) or bool(cast(Any, node.target)._schema.returns)


def _same_storage(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
