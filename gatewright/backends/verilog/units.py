"""Prints units of the network: generated modules, and instances of library cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gatewright.backends.verilog.datapath import datapath
from gatewright.backends.verilog.expressions import declaration
from gatewright.backends.verilog.memories import rom_parameters
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.streams.cells import Adapter, Fifo, Fork, Reorder, Repeat, Replay
from gatewright.ir.streams.network import Channel, Component
from gatewright.ir.streams.products import Product
from gatewright.ir.streams.terms import PairSums, TermContractUnit
from gatewright.ir.streams.units import (
    ContractUnit,
    LaneReduceUnit,
    MapUnit,
    ReduceUnit,
    RewireUnit,
    SequenceUnit,
)
from gatewright.ir.streams.window_units import ColumnWindow, LineBuffer, WindowUnit
from gatewright.ir.types import Value


@dataclass(slots=True)
class Instance:
    """One instance in the top level: module, parameters, connections, and lines around it."""

    name: str
    module: str
    parameters: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    connections: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    before: list[str] = field(default_factory=list[str])
    after: list[str] = field(default_factory=list[str])
    comment: str = ""


@dataclass(slots=True)
class Printed:
    """What a unit adds to a design: its instance, generated modules by template, and memory files."""

    instance: Instance
    template: str = ""
    context: dict[str, Any] = field(default_factory=dict[str, Any])
    memories: dict[str, str] = field(default_factory=dict[str, str])


def stream(prefix: str, channel: Channel, is_input: bool) -> list[tuple[str, str]]:
    """Connections of one stream port named ``prefix`` (empty for the only one)."""
    lead = f"{prefix}_" if prefix else ""
    into, out = ("i", "o") if is_input else ("o", "i")
    return [
        (f"{lead}valid_{into}", f"{channel.name}_valid"),
        (f"{lead}ready_{out}", f"{channel.name}_ready"),
        (f"{lead}data_{into}", f"{channel.name}_data"),
    ]


def cell(component: Component, module: str, parameters: dict[str, int]) -> Printed:
    """A library cell with one input and one output stream."""
    connections = [*stream("", component.inputs[0], True), *stream("", component.outputs[0], False)]
    listed = [(name, str(value)) for name, value in parameters.items()]
    return Printed(Instance(component.name, module, listed, connections))


def hex_words(codes: IntegerArray, width: int) -> str:
    """Rows of codes as memory words in hexadecimal, lane 0 least significant, one word a line."""
    lanes = codes.shape[1]
    digits = -(-lanes * width // 4)
    mask = (1 << width) - 1
    if lanes == 1:
        return "".join(f"{int(row[0]) & mask:0{digits}x}\n" for row in codes)
    lines: list[str] = []
    for row in codes:
        word = 0
        for lane in range(lanes - 1, -1, -1):
            word = (word << width) | (int(row[lane]) & mask)
        lines.append(f"{word:0{digits}x}\n")
    return "".join(lines)


def _packed(numbers: list[int], width: int) -> str:
    """Numbers as one packed constant, the first least significant."""
    words = ", ".join(f"{width}'d{number % (1 << width)}" for number in reversed(numbers))
    return f"{{{words}}}"


def _fork(component: Fork, _: str) -> Printed:
    (source,) = component.inputs
    outputs = component.outputs
    name = component.name
    connections = [
        *stream("", source, True),
        ("valid_o", f"{{{', '.join(f'{each.name}_valid' for each in reversed(outputs))}}}"),
        ("ready_i", f"{{{', '.join(f'{each.name}_ready' for each in reversed(outputs))}}}"),
        ("data_o", f"{name}_data"),
    ]
    instance = Instance(name, "gw_fork", [("Width", str(source.width)), ("Outputs", str(len(outputs)))], connections)
    instance.before = [f"logic [{source.width - 1}:0] {name}_data;"]
    instance.after = [f"assign {each.name}_data = {name}_data;" for each in outputs]
    return Printed(instance)


def _reorder(component: Reorder, _: str) -> Printed:
    printed = cell(component, "gw_reorder_buffer", {"Width": component.inputs[0].width, "Count": component.count})
    printed.instance.parameters += [
        ("Loops", str(len(component.counts))),
        ("Counts", _packed(list(component.counts), 32)),
        ("Strides", _packed(list(component.strides), 32)),
        ("Offset", str(component.offset)),
    ]
    return printed


def _adapter(component: Adapter, _: str) -> Printed:
    source, target = component.inputs[0], component.outputs[0]
    parameters = {
        "ElementWidth": source.value.width,
        "TileIn": source.layout.lanes,
        "TileOut": target.layout.lanes,
        "Elements": source.layout.elements,
    }
    return cell(component, "gw_width_adapter", parameters)


def contract_words(unit: ContractUnit) -> IntegerArray:
    """The weights as memory words [words, outputs_per_beat * inputs_per_beat], padded with zeros."""
    weights = unit.weights.array
    groups, outputs, inputs = weights.shape
    rows, columns = unit.outputs_per_beat, unit.inputs_per_beat
    padded = np.pad(weights, ((0, 0), (0, -outputs % rows), (0, -inputs % columns)))
    tiles = padded.reshape(groups, unit.output_blocks, rows, unit.input_beats, columns)
    return tiles.transpose(0, 1, 3, 2, 4).reshape(groups * unit.output_blocks * unit.input_beats, rows * columns)


def _contract(component: ContractUnit, prefix: str) -> Printed:
    source, target = component.inputs[0], component.outputs[0]
    words = contract_words(component)
    interval = component.weight_interval
    file = f"{prefix}_{component.name}_weights.hex"
    printed = cell(
        component,
        "gw_contract",
        {
            "DataWidth": source.value.width,
            "DataSigned": int(source.value.signed),
            "WeightWidth": interval.width,
            "WeightSigned": int(interval.signed),
            "SumWidth": target.value.width,
            "InputsPerBeat": component.inputs_per_beat,
            "OutputsPerBeat": component.columns * component.outputs_per_beat,
            "DataGroups": component.data_groups,
            "WeightRows": component.outputs_per_beat,
            "InputBeats": component.input_beats,
            "Words": len(words),
            "TreeRegisters": component.tree_registers,
        },
    )
    if component.product is not None:
        printed.instance.parameters += _product_parameters(component.product)
    _add_memory(printed, file, hex_words(words, interval.width), words.shape[1] * interval.width)
    return printed


def _add_memory(printed: Printed, file: str, text: str, width: int) -> None:
    """Give a contraction its read-only memory of ``width`` bits a word."""
    printed.memories[file] = text
    printed.instance.parameters += [*rom_parameters(text, width), ("RomFile", f'"{file}"')]


def _pair_sums(component: PairSums, _: str) -> Printed:
    source = component.inputs[0]
    parameters = {
        "Width": source.value.width,
        "Signed": int(source.value.signed),
        "Lanes": source.layout.lanes,
    }
    return cell(component, "gw_pair_sums", parameters)


def _term_contract(component: TermContractUnit, prefix: str) -> Printed:
    sum_width = component.outputs[0].value.width
    words = component.words(sum_width)
    width = component.outputs_per_beat * (2 * component.terms + sum_width)
    file = f"{prefix}_{component.name}_choices.hex"
    parameters = {
        "TermWidth": component.term_width,
        "Paired": int(component.paired),
        "Signed": int(component.signed),
        "Terms": component.terms,
        "OutputsPerBeat": component.outputs_per_beat,
        "InputBeats": component.input_beats,
        "Repeats": component.repeats,
        "Words": len(words),
        "SumWidth": sum_width,
        "Segment": component.segment,
        "TreeRegisters": component.tree_registers,
    }
    printed = cell(component, "gw_contract_terms", parameters)
    _add_memory(printed, file, "".join(f"{word:0{-(-width // 4)}x}\n" for word in words), width)
    return printed


def packing_parameters(product: Product, sides: tuple[str, str]) -> list[tuple[str, str]]:
    """The parameters of ``gw_dot`` that describe packed operands and their multiplier."""
    listed = [
        ("Hard", str(int(product.hard))),
        ("ProductWidth", str(product.width)),
        ("ExponentMax", str(product.exponent_max)),
    ]
    for side, packing in zip(sides, (product.left, product.right), strict=True):
        listed += [
            (f"HasSign{side}", str(int(packing.negative))),
            (f"Exponent{side}", str(packing.exponent)),
            (f"Width{side}", str(packing.width)),
            (f"Signed{side}", str(int(packing.signed))),
            (f"Unit{side}", str(int(packing.unit))),
        ]
    return listed + _table_parameters(product)


def _product_parameters(product: Product) -> list[tuple[str, str]]:
    """The parameters of ``gw_contract`` that describe packed operands and their multiplier."""
    parameters = {"Hard": int(product.hard), "ProductWidth": product.width, "ExponentMax": product.exponent_max}
    for name, packing in (("Data", product.left), ("Weight", product.right)):
        parameters[f"{name}Negative"] = int(packing.negative)
        parameters[f"{name}Exponent"] = packing.exponent
        parameters[f"{name}Unit"] = int(packing.unit)
    return [(name, str(value)) for name, value in parameters.items()] + _table_parameters(product)


def _table_parameters(product: Product) -> list[tuple[str, str]]:
    if product.table is None:
        return []
    bits = product.width * len(product.table)
    word = 0
    for each in reversed(product.table):
        word = (word << product.width) | (each & ((1 << product.width) - 1))
    return [("TableBits", str(bits)), ("Products", f"{bits}'h{word:x}")]


def _line_buffer(component: LineBuffer, _: str) -> Printed:
    parameters = {
        "Width": component.inputs[0].width,
        "Beats": component.beats,
        "Lines": component.lines,
        "OutLines": component.out_lines,
        "Taps": component.taps,
        "Dilation": component.dilation,
        "Stride": component.stride,
        "PadBefore": component.pad_before,
    }
    printed = cell(component, "gw_line_buffer", parameters)
    source = component.inputs[0]
    printed.instance.parameters.append(("Fill", _filled(source.value, source.layout.lanes, component.fill)))
    return printed


def _column_window(component: ColumnWindow, _: str) -> Printed:
    source, plan = component.inputs[0].value, component.columns
    parameters = {
        "Width": component.channels * source.width,
        "Rows": component.rows,
        "InColumns": plan.pixels,
        "Columns": plan.count,
        "Taps": plan.axis.taps,
        "Stride": plan.axis.stride,
        "Dilation": plan.axis.dilation,
        "Pad": plan.axis.before,
        "Beats": plan.beats_in,
        "OutBeats": plan.beats_out,
        "Lines": component.lines,
        "Before": plan.before,
        "After": plan.after,
        "Tail": component.tail,
    }
    printed = cell(component, "gw_column_window", parameters)
    printed.instance.parameters.append(("Fill", _filled(source, component.channels, component.fill)))
    return printed


def _window(component: WindowUnit, _: str) -> Printed:
    printed = cell(component, "gw_window", {"Width": component.inputs[0].width, "Depth": component.depth})
    tables = {
        "Counts": component.counts,
        "AddressSteps": component.address_steps,
        "OffsetSteps": component.offset_steps,
        "RowSteps": component.row_steps,
        "ColumnSteps": component.column_steps,
        "Advances": component.advances,
    }
    numbers = {
        "LevelWidth": component.level_width,
        "Preload": component.preload,
        "Rows": component.rows,
        "Columns": component.columns,
        "PadTop": component.pad_top,
        "PadLeft": component.pad_left,
        "MasksRows": int(component.padded[0]),
        "MasksColumns": int(component.padded[1]),
        "RowWidth": component.row_width,
        "ColumnWidth": component.column_width,
    }
    printed.instance.parameters += [
        ("Loops", str(len(component.loops))),
        *((name, _packed(table, 32)) for name, table in tables.items()),
        *((name, str(number)) for name, number in numbers.items()),
        ("Fill", _filled(component.inputs[0].value, component.inputs[0].layout.lanes, component.fill)),
    ]
    return printed


def _filled(value: Value, lanes: int, code: int) -> str:
    """So many ``lanes`` of ``value`` with ``code`` on every one."""
    word = 0
    for _ in range(lanes):
        word = (word << value.width) | (code & ((1 << value.width) - 1))
    return f"{lanes * value.width}'h{word:x}"


KINDS = ("sum", "max", "min", "or")
"""Reductions, by the number that the cells give them."""


def _reduce(component: ReduceUnit, _: str) -> Printed:
    source, target = component.inputs[0], component.outputs[0]
    parameters = {
        "Kind": KINDS.index(component.kind),
        "DataWidth": source.value.width,
        "DataSigned": int(source.value.signed),
        "ResultWidth": target.value.width,
        "Lanes": source.layout.lanes,
        "Count": component.count,
        "Inner": component.inner,
        "ReducesLanes": int(component.reduces_lanes),
        "Tail": component.tail,
    }
    return cell(component, "gw_reduce", parameters)


def _reduce_lanes(component: LaneReduceUnit, _: str) -> Printed:
    source, target = component.inputs[0], component.outputs[0]
    parameters = {
        "Kind": KINDS.index(component.kind),
        "DataWidth": source.value.width,
        "DataSigned": int(source.value.signed),
        "ResultWidth": target.value.width,
        "Groups": target.layout.lanes // component.inner,
        "Count": component.count,
        "Inner": component.inner,
    }
    return cell(component, "gw_reduce_lanes", parameters)


def _resized(component: Component) -> tuple[list[str], list[str]]:
    """Signals that carry every input at the output's element width, and the lines that make them."""
    target = component.outputs[0].value
    names: list[str] = []
    lines: list[str] = []
    for channel in component.inputs:
        if channel.value.width == target.width:
            names.append(f"{channel.name}_data")
            continue
        name = f"{component.name}_{channel.name}"
        lanes = channel.layout.lanes
        lines += [
            f"logic [{lanes * target.width - 1}:0] {name};",
            (
                f"gw_resize #(.Lanes({lanes}), .WidthIn({channel.value.width}), .WidthOut({target.width}), "
                f".Signed({int(channel.value.signed)})) u_{name} (.data_i({channel.name}_data), .data_o({name}));"
            ),
        ]
        names.append(name)
    return names, lines


def _joined_handshake(component: Component) -> list[tuple[str, str]]:
    valid = ", ".join(f"{channel.name}_valid" for channel in reversed(component.inputs))
    ready = ", ".join(f"{channel.name}_ready" for channel in reversed(component.inputs))
    return [("valid_i", f"{{{valid}}}"), ("ready_o", f"{{{ready}}}")]


def _sequence(component: SequenceUnit, _: str) -> Printed:
    target = component.outputs[0]
    names, lines = _resized(component)
    kinds = [2 if each.source is None else int(each.forward) for each in component.segments]
    element = component.fill & ((1 << target.value.width) - 1)
    fill = 0
    for _lane in range(target.layout.lanes):
        fill = (fill << target.value.width) | element
    parameters = [
        ("Width", str(target.width)),
        ("Inputs", str(len(component.inputs))),
        ("Segments", str(len(component.segments))),
        ("Counts", _packed([each.count for each in component.segments], 32)),
        ("Sources", _packed([each.source or 0 for each in component.segments], 8)),
        ("Kinds", _packed(kinds, 2)),
        ("Fill", f"{target.width}'h{fill:x}"),
    ]
    connections = [
        *_joined_handshake(component),
        ("data_i", f"{{{', '.join(reversed(names))}}}"),
        *stream("", target, False),
    ]
    return Printed(Instance(component.name, "gw_sequence", parameters, connections, lines))


def _rewire(component: RewireUnit, prefix: str) -> Printed:
    target = component.outputs[0]
    width = target.value.width
    names, lines = _resized(component)
    ports = [
        {"name": f"x{k}", "bits": each.layout.lanes * width, "unused": True} for k, each in enumerate(component.inputs)
    ]
    fill = f"{width}'h{component.fill & ((1 << width) - 1):x}"
    lanes = [fill if source < 0 else f"x{source}_data_i[{lane * width} +: {width}]" for source, lane in component.lanes]
    connections: list[tuple[str, str]] = []
    for k, (channel, name) in enumerate(zip(component.inputs, names, strict=True)):
        connections += [*stream(f"x{k}", channel, True)[:2], (f"x{k}_data_i", name)]
    module = f"{prefix}_{component.name}"
    instance = Instance(component.name, module, [], [*connections, *stream("", target, False)], lines)
    return Printed(instance, "rewire_unit.sv.j2", {"ports": ports, "lanes": lanes, "result_width": width})


def _map(component: MapUnit, prefix: str) -> Printed:
    target = component.outputs[0]
    lanes = target.layout.lanes
    expression = component.expression
    first = 1 if any(component.stages[k] for k, node in enumerate(expression.nodes) if node.op == "input") else 0
    lane = datapath(expression, component.stages, first)
    uses = expression.uses()
    used = {f"x{node.attributes[0]}" for k, node in enumerate(expression.nodes) if node.op == "input" and uses[k]}
    memories: dict[str, str] = {}
    operands: list[dict[str, str]] = []
    tables: list[dict[str, Any]] = []
    ports: list[dict[str, Any]] = []
    for k, (channel, operand) in enumerate(zip(component.inputs, component.streams, strict=True)):
        width = channel.value.width
        data = f"s{k}_data_q" if first else f"s{k}_data_i"
        ports.append({"name": f"s{k}", "bits": channel.width, "is_used": f"x{operand}" in used})
        source = f"{data}" if k in component.scalar_inputs or lanes == 1 else f"{data}[lane*{width} +: {width}]"
        operands.append(_operand(operand, channel.value.interval, source))
    for operand, codes, interval in component.tables:
        if f"x{operand}" not in used:
            continue
        width = interval.width
        name = f"constant{operand}"
        text = hex_words(codes.array, width)
        depth = len(codes.array)
        file = f"{prefix}_{component.name}_{name}.hex"
        if depth > 1:
            memories[file] = text
        tables.append(
            {
                "operand": operand,
                "name": name,
                "depth": depth,
                "bits": lanes * width,
                "word": text.strip() if depth == 1 else "",
                "file": file,
                "address_width": max((depth - 1).bit_length(), 1),
            }
        )
        source = name if lanes == 1 else f"{name}[lane*{width} +: {width}]"
        operands.append(_operand(operand, interval, source))
    lookups: list[dict[str, Any]] = []
    for name, interval, entries in lane.tables:
        depth = 1 << max(len(entries) - 1, 1).bit_length()
        file = f"{prefix}_{component.name}_{name}.hex"
        padded = np.array([*entries, *[entries[-1]] * (depth - len(entries))], dtype=object).reshape(-1, 1)
        memories[file] = hex_words(padded, interval.width)
        lookups.append({"name": name, "width": interval.width, "depth": depth, "file": file})
    connections: list[tuple[str, str]] = []
    for k, channel in enumerate(component.inputs):
        connections += stream(f"s{k}", channel, True)
    context = {
        "lanes": lanes,
        "latency": component.latency,
        "comment": [*(f"x{n}: {v}" for n, v in _operand_types(component)), *expression.lines()],
        "ports": ports,
        "tables": tables,
        "registered_inputs": first == 1,
        "operands": [each for each in operands if each["name"] in used],
        "declarations": lane.declarations,
        "statements": [line for each in lane.statements for line in each.split("\n")],
        "registers": lane.registers,
        "lookups": lookups,
        "result": lane.result,
        "result_width": target.value.width,
    }
    module = f"{prefix}_{component.name}"
    instance = Instance(component.name, module, [], [*connections, *stream("", target, False)])
    return Printed(instance, "map_unit.sv.j2", context, memories)


def _operand(number: int, interval: Any, source: str) -> dict[str, str]:
    return {"name": f"x{number}", "declaration": declaration(interval), "source": source}


def _operand_types(component: MapUnit) -> list[tuple[int, str]]:
    streams = [
        (operand, f"{channel.value.name}, {channel.value.format}")
        for channel, operand in zip(component.inputs, component.streams, strict=True)
    ]
    return sorted([*streams, *((operand, f"constant {interval}") for operand, _, interval in component.tables)])


PRINTERS: dict[type[Component], Callable[[Any, str], Printed]] = {
    Fifo: lambda c, _: cell(c, "gw_fifo", {"Width": c.inputs[0].width, "Depth": c.depth}),
    Fork: _fork,
    Replay: lambda c, _: cell(
        c,
        "gw_replay_buffer",
        {"Width": c.inputs[0].width, "Window": c.window, "Repeats": c.repeats, "Depth": c.depth},
    ),
    Repeat: lambda c, _: cell(c, "gw_repeat", {"Width": c.inputs[0].width, "Repeats": c.repeats}),
    Reorder: _reorder,
    Adapter: _adapter,
    ContractUnit: _contract,
    PairSums: _pair_sums,
    TermContractUnit: _term_contract,
    LineBuffer: _line_buffer,
    WindowUnit: _window,
    ColumnWindow: _column_window,
    ReduceUnit: _reduce,
    LaneReduceUnit: _reduce_lanes,
    SequenceUnit: _sequence,
    RewireUnit: _rewire,
    MapUnit: _map,
}
"""How each component is printed."""
