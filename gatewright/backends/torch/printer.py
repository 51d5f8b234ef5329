"""Prints a tensor-level graph as the source of a PyTorch module."""

from __future__ import annotations

import builtins
import dataclasses
import json
import keyword
import re
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gatewright.backends.torch.functions import has_integer_function
from gatewright.backends.torch.precision import Precision, precisions
from gatewright.backends.torch.special import cast_operand_text, codes_read, operand_texts, port_values, special_values
from gatewright.backends.torch.texts import operation_text, result_cast, streams_of
from gatewright.backends.torch.wide import Region, region_of
from gatewright.diagnostics import Location
from gatewright.ir.formats import Block, CastSpec, Exact, Fixed, Format, Overflow, Rounding, ScalarFormat
from gatewright.ir.graph import Graph, Node
from gatewright.ir.operator import Operator
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.constant import Constant
from gatewright.ir.types import Value

HEADER = '''\
"""{title}, printed by Gatewright.

The forward computes exactly what the hardware computes, in real numbers: every rounding is a gw.cast.
Gradients pass straight through casts.
"""

import torch
import torch.nn.functional as F

from gatewright.backends.torch import runtime as gw

'''

RESERVED = {"self", "torch", "F", "gw", *keyword.kwlist, *dir(builtins)}


@dataclass(frozen=True, slots=True)
class ConstantTensor:
    """A tensor of the printed module: its path, its values, and whether it is trained and saved."""

    path: str
    array: NDArray[np.float64]
    trainable: bool
    saved: bool


@dataclass(frozen=True, slots=True)
class Printed:
    """A printed module: its source, its class's name, the tensors that it declares, and its wide regions."""

    source: str
    name: str
    tensors: tuple[ConstantTensor, ...]
    regions: tuple[Region, ...] = ()


@dataclass(slots=True)
class _State:
    """What the printer knows while it walks the graph."""

    graph: Graph
    streams: set[Value]
    precision: dict[Value, Precision]
    producer: dict[Value, Node]
    ports: set[Value]
    special: dict[Value, Format]
    codes: set[Value]
    names: dict[Value, str] = field(default_factory=dict[Value, str])
    taken: set[str] = field(default_factory=lambda: set(RESERVED))
    tensors: dict[str, ConstantTensor] = field(default_factory=dict[str, ConstantTensor])
    regions: dict[str, Region] = field(default_factory=dict[str, Region])
    lines: list[str] = field(default_factory=list[str])
    place: Location | None = None

    def name(self, value: Value) -> str:
        """A Python name for ``value``, made from the graph's."""
        base = re.sub(r"\W+", "_", value.name).strip("_") or "value"
        base = f"_{base}" if base[0].isdigit() else base
        name, count = base, 1
        while name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name)
        return name


def print_module(graph: Graph, original: str = "") -> Printed:
    """The module that computes ``graph``; ``original`` is the class's name in the user's model.

    Parameters keep their names, so that the ``state_dict`` has the original model's keys.
    """
    ports = port_values(graph)
    special = special_values(graph, ports)
    streams = streams_of(graph)
    codes = codes_read(graph) & streams
    state = _State(graph, streams, precisions(graph), graph.producer(), ports, special, codes)
    inputs = [state.name(value) for value in graph.inputs]
    state.names.update(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        _print_node(state, node)
    outputs = [
        _wide_text(state, value, state.names[value]) if state.precision[value].dtype == "wide" else state.names[value]
        for value in graph.outputs
    ]
    if graph.inputs:
        outputs = [
            text if value in state.streams else f"gw.repeat({text}, {inputs[0]})"
            for text, value in zip(outputs, graph.outputs, strict=True)
        ]
    name = _class_name(original or graph.name)
    body = [f"class {name}(gw.Module):", "    def __init__(self) -> None:", "        super().__init__()"]
    body += [f"        {_declaration(tensor)}" for tensor in state.tensors.values()]
    arguments = "".join(f", {each}: torch.Tensor" for each in inputs)
    returned = "torch.Tensor" if len(outputs) == 1 else f"tuple[{', '.join(['torch.Tensor'] * len(outputs))}]"
    body += ["", "    @gw.exact_arithmetic", f"    def forward(self{arguments}) -> {returned}:"]
    body += [f"        {line}" if line else "" for line in state.lines]
    body += [f"        return {', '.join(outputs)}", ""]
    source = HEADER.format(title=original or graph.name) + "\n" + "\n".join(body)
    return Printed(source, name, tuple(state.tensors.values()), tuple(state.regions.values()))


def _class_name(name: str) -> str:
    words = [word for word in re.split(r"\W+|_", name) if word]
    joined = "".join(word[0].upper() + word[1:] for word in words) or "Model"
    return f"Quantised{joined}"


def _declaration(tensor: ConstantTensor) -> str:
    kind = "" if tensor.trainable else ", trainable=False" if tensor.saved else ", trainable=False, saved=False"
    return f"self.declare({json.dumps(tensor.path, ensure_ascii=False)}, {tensor.array.shape}{kind})"


def _print_node(state: _State, node: Node) -> None:
    op, value = node.op, node.output
    if isinstance(op, Constant):
        state.names[value] = _constant_text(state, node, op)
        return
    _print_place(state, node)
    operands = operand_texts(node, [state.names[each] for each in node.inputs], state.special)
    precision = state.precision[value]
    if isinstance(op, Cast):
        text = _cast_text(state, node, op, cast_operand_text(node, operands[0], state.ports, state.codes))
    else:
        wide = precision.dtype != "float32"
        operands = [
            f"gw.exact({text})" if wide and state.precision[each].dtype == "float32" else text
            for text, each in zip(operands, node.inputs, strict=True)
        ]
        operands = [
            f"{text}.to({operands[0]}.dtype)" if _is_computed_parameter(state, node, each) else text
            for text, each in zip(operands, node.inputs, strict=True)
        ]
        spec = result_cast(op)
        if spec is None:
            text = operation_text(node, operands, state.streams)
        else:
            text = _function_text(state, node, spec, operands)
    enters = any(state.precision[each].dtype == "wide" for each in node.inputs)
    if enters and precision.dtype != "wide" and not _is_stochastic(op):
        text = _wide_text(state, value, text)
    name = state.name(value)
    state.names[value] = name
    state.lines.append(f"{name} = {text}{_comment(value, precision)}")


def _is_stochastic(op: Operator) -> bool:
    spec = op.spec if isinstance(op, Cast) else result_cast(op)
    return spec is not None and spec.rounding is Rounding.STOCHASTIC


def _is_computed_parameter(state: _State, node: Node, value: Value) -> bool:
    """Whether a stream meets a real number computed from parameters: it is in float64 and has no cast."""
    if node.inputs[0] not in state.streams or value in state.streams or not state.precision[value].is_real:
        return False
    return not isinstance(state.producer[value].op, Constant)


def _wide_text(state: _State, value: Value, approximate: str) -> str:
    """``value`` computed in integers from the nearest values that floating point holds exactly.

    What no hardware computes, such as a sum with a tensor in a scaled format, stays the nearest float64.
    """
    region = region_of(value, state.producer, state.precision, state.streams)
    if not region.has_integers():
        return approximate
    state.regions[region.key] = region
    leaves = "".join(f", {state.names[each]}" for each in region.leaves)
    return f'gw.wide({approximate}, "{region.key}"{leaves})'


def _cast_text(state: _State, node: Node, op: Cast, operand: str) -> str:
    producer = state.producer.get(node.inputs[0])
    if producer is not None and isinstance(producer.op, Constant) and operand.startswith("self."):
        return f"self.quantised({operand}, {op.settings()})"
    spec = op.spec
    if isinstance(spec.format, Block) and spec.overflow is Overflow.INFINITE and spec.format.element.has_infinity:
        # An infinite element counts as the largest one, as its block's scale has it.
        op = dataclasses.replace(op, spec=dataclasses.replace(spec, overflow=Overflow.SATURATE))
    return op.torch(operand)


def _function_text(state: _State, node: Node, spec: CastSpec, operands: list[str]) -> str:
    """The hardware's function where the operand has a format, else the real one and a cast."""
    real = operation_text(node, ["v"], state.streams)
    source = state.precision[node.inputs[0]].type.format
    fields = {each.name: getattr(node.op, each.name) for each in dataclasses.fields(cast(Any, node.op))}
    known = isinstance(source, ScalarFormat) and (not isinstance(source, Exact) or fields.get("domain") is not None)
    known &= spec.rounding is not Rounding.STOCHASTIC and isinstance(spec.format, ScalarFormat)
    if not known or node.output not in state.streams:
        return f'gw.cast({operation_text(node, operands, state.streams)}, "{spec}")'
    attributes = json.dumps({name: value for name, value in fields.items() if name != "result" and value is not None})
    if not has_integer_function(node.op.name, str(source), str(spec), attributes):
        # Software alone, which `compile` refuses: the real function, in float64.
        text = operation_text(node, [f"gw.exact({operands[0]})"], state.streams)
        is_code = (
            isinstance(spec.format, Fixed) and isinstance(source, ScalarFormat) and source.has_nan
        )  # NaN is the code 0
        return f'gw.cast({f"gw.counted({text})" if is_code else text}, "{spec}")'
    last = "" if attributes == "{}" else f", '{attributes}'"
    return f'gw.function("{node.op.name}", {operands[0]}, lambda v: {real}, "{source}", "{spec}"{last})'


def _comment(value: Value, precision: Precision) -> str:
    shape = ", ".join(map(str, value.shape))
    if precision.is_real:
        return f"  # [{shape}]"
    interval = "" if precision.type.interval is None else f" {precision.type.interval}"
    return f"  # [{shape}] {precision.type.format}{interval}"


def _print_place(state: _State, node: Node) -> None:
    """A comment with the layer and its source line, where it changes."""
    place = node.location
    if place == state.place or not str(place):
        return
    state.place = place
    text = f": {place.text.strip()}" if place.text else ""
    short = place.file.rsplit("/", 1)[-1]
    where = f" ({short}:{place.line}{text})" if place.file else ""
    if state.lines:
        state.lines.append("")
    state.lines.append(f"# {' '.join(place.module.split()) or 'model'}{where}")


def _constant_text(state: _State, node: Node, op: Constant) -> str:
    array = op.format.decode(op.data.array) if isinstance(op.format, ScalarFormat) else op.data.array
    array = np.asarray(array, dtype=np.float64)
    path = op.source
    known = state.tensors.get(path)
    if not path or (known is not None and (known.array.shape != array.shape or not np.array_equal(known.array, array))):
        path, count = f"constant_{node.output.name.replace('.', '_')}", 1
        while path in state.tensors:
            count += 1
            path = f"{path}_{count}"
        state.tensors[path] = ConstantTensor(path, array, trainable=False, saved=False)
    elif known is None:
        state.tensors[path] = ConstantTensor(path, array, op.trainable, saved=True)
    return attribute_text(path)


def attribute_text(path: str) -> str:
    """``self.net[0].weight`` for ``net.0.weight``."""
    text = "self"
    for part in path.split("."):
        if part.isdigit():
            text += f"[{part}]"
        elif part.isidentifier() and not keyword.iskeyword(part):
            text += f".{part}"
        else:
            text = f"getattr({text}, {json.dumps(part, ensure_ascii=False)})"
    return text
