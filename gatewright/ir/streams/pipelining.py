"""Where the pipeline registers of an expression go: a delay model that knows widths, and a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

from gatewright.ir.expressions import Expression, ScalarNode
from gatewright.ir.targets import Family

FREE = {"input", "constant", "shl", "shr", "wrap"}
LOGIC = {"and", "or", "xor"}


def logic_levels(inputs: int, family: Family) -> int:
    """LUT levels of a function of ``inputs`` bits."""
    return max(1, ceil(log(max(inputs, 2)) / log(family.lut_inputs)))


def adder_delay(width: int, family: Family) -> float:
    """A carry chain of ``width`` bits, in ns."""
    return family.carry + family.carry_bit * width


def node_delay(node: ScalarNode, nodes: tuple[ScalarNode, ...], family: Family) -> float:
    """The combinational delay of one node in ns; operands that are constants make some nodes cheap."""
    operands = [nodes[arg] for arg in node.args]
    variable = [each for each in operands if each.op != "constant"]
    width = max([node.interval.width, *(each.interval.width for each in operands)])
    if node.op in FREE:
        return 0.0
    if node.op in LOGIC:
        return family.lut
    if node.op == "mul":
        if len(variable) == 2:
            return family.multiply
        constant = next(each for each in operands if each.op == "constant").attributes[0]
        terms = max(1, bin(abs(constant) ^ (3 * abs(constant))).count("1"))
        return adder_delay(width, family) * ceil(log(terms + 1, 2))
    if node.op == "eq":
        return family.lut * logic_levels(2 * width, family)
    if node.op in ("max", "min", "abs"):
        return adder_delay(width, family) + family.lut
    if node.op in ("shlv", "shlw", "shrv"):
        return family.lut * max(1, ceil(operands[1].interval.width / 2))
    if node.op == "lzc":
        return family.lut * 2 * logic_levels(width, family)
    if node.op == "select":
        return family.lut
    if node.op == "table":
        return family.lut * logic_levels(operands[0].interval.width + 1, family)
    if node.op == "round":
        shift = int(node.attributes[0])
        return family.lut * logic_levels(shift, family) + adder_delay(width, family)
    return adder_delay(width, family)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stage of every node (its value is ready in that stage) and the registers in to out."""

    stages: tuple[int, ...]
    latency: int


def pipeline(expression: Expression, family: Family, period: float, registered_inputs: bool) -> Pipeline:
    """As-soon-as-possible stages so that no path between registers exceeds ``period`` ns.

    A lookup table is a synchronous memory: its result appears one stage after its address. The output
    is always registered. ``registered_inputs`` adds a stage before everything (constants from memory).
    """
    first = 1 if registered_inputs else 0
    stages: list[int] = []
    arrival: list[float] = []
    for node in expression.nodes:
        arguments = [arg for arg in node.args if expression.nodes[arg].op != "constant"]
        if not arguments:
            stages.append(first)
            arrival.append(0.0)
            continue
        stage = max(stages[arg] for arg in arguments)
        begin = max((arrival[arg] for arg in arguments if stages[arg] == stage), default=0.0)
        delay = node_delay(node, expression.nodes, family)
        if node.op == "table":
            stages.append(stage + 1)
            arrival.append(family.memory)
            continue
        if begin > 0.0 and begin + delay > period:
            stage, begin = stage + 1, 0.0
        stages.append(stage)
        arrival.append(begin + delay)
    return Pipeline(tuple(stages), stages[expression.result] + 1)
