"""The statements of one lane of a map: nodes in their pipeline stages, and registers between stages."""

from __future__ import annotations

from dataclasses import dataclass, field

from gatewright.backends.verilog.expressions import RULES, Operand, declaration, literal, operand_of, sized
from gatewright.ir.expressions import Expression, ScalarNode
from gatewright.ir.intervals import Interval


@dataclass(slots=True)
class Datapath:
    """Text of a lane: declarations, combinational statements, registered assignments, and lookup tables."""

    declarations: list[str] = field(default_factory=list[str])
    statements: list[str] = field(default_factory=list[str])
    registers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    tables: list[tuple[str, Interval, tuple[int, ...]]] = field(
        default_factory=list[tuple[str, Interval, tuple[int, ...]]]
    )
    result: str = ""


def datapath(expression: Expression, stages: tuple[int, ...], first_stage: int) -> Datapath:
    """Print a lane. Operand ``i`` is the signal ``x<i>`` in ``first_stage``; the result is the text of the
    last stage's value, which the module registers.
    """
    lane = Datapath()
    ready: dict[tuple[int, int], str] = {}
    result_stage = stages[expression.result]
    last_use = [stages[index] for index in range(len(expression.nodes))]
    for index, node in enumerate(expression.nodes):
        for arg in node.args:
            last_use[arg] = max(last_use[arg], stages[index] - (node.op == "table"))
    last_use[expression.result] = result_stage
    uses = expression.uses()
    for index, node in enumerate(expression.nodes):
        if node.is_constant or (node.op == "input" and uses[index] == 0):
            continue
        stage = first_stage if node.op == "input" else stages[index]
        name = f"x{node.attributes[0]}" if node.op == "input" else f"t{index}"
        ready[index, stage] = name
        if node.op != "input":
            use_stage = stage - (node.op == "table")
            operands = [operand_of(expression, arg, ready.get((arg, use_stage), "")) for arg in node.args]
            _print_node(lane, name, node, operands)
        for later in range(stage + 1, last_use[index] + 1):
            held = f"{name}_s{later}"
            lane.declarations.append(f"{declaration(node.interval)} {held};")
            lane.registers.append((held, ready[index, later - 1]))
            ready[index, later] = held
    result = operand_of(expression, expression.result, ready.get((expression.result, result_stage), ""))
    lane.result = result.text
    return lane


def _print_node(lane: Datapath, name: str, node: ScalarNode, operands: list[Operand]) -> None:
    lane.declarations.append(f"{declaration(node.interval)} {name};")
    if node.op == "table":
        offset, entries = node.attributes
        depth = max(len(entries) - 1, 1).bit_length()
        (address,) = operands
        index = address.at(depth) if offset == 0 else f"{depth}'({_offset(address, offset)})"
        lane.declarations.append(f"logic [{depth - 1}:0] {name}_index;")
        lane.statements.append(f"assign {name}_index = {index};")
        lane.tables.append((name, node.interval, entries))
        lane.registers.append((name, f"{name}_rom[{name}_index]"))
    elif node.op == "lzc":
        (width,) = node.attributes
        (value,) = operands
        bits = value.interval.width
        result = node.interval.width
        none = literal(min(width, node.interval.high), result)
        lane.statements.append(
            f"always_comb begin\n"
            f"  {name} = {none};\n"
            f"  for (int unsigned k = 0; k < {bits}; k++) begin\n"
            f"    if ({sized(f'{value.text} >> k', bits, 1)}) {name} = {result}'({width - 1} - k);\n"
            f"  end\nend"
        )
    else:
        lane.statements.append(f"assign {name} = {RULES[node.op](node, operands)};")


def _offset(address: Operand, offset: int) -> str:
    width = max(address.signed_width, Interval(min(offset, 0), max(offset, 0)).width) + 1
    return f"{address.signed_at(width)} - {literal(offset, width)}"
