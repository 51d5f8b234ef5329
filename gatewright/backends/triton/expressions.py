"""Prints a scalar integer expression as Triton statements, exact by interval.

One rule per row of :data:`gatewright.ir.scalar_ops.SCALAR_OPS`. Every node is held in int32 where its
interval takes at most 30 bits, else in int64 (at most 62 bits); an operation works in the wider of what
its operands, its result and its intermediate steps need. An expression with a wider node has no Triton
form (:func:`is_narrow`); it is computed on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from gatewright.diagnostics import error
from gatewright.ir.expressions import Expression, ScalarNode
from gatewright.ir.formats import Rounding
from gatewright.ir.intervals import INT64_BITS, IntegerArray, Interval
from gatewright.ir.scalar_ops import Attributes

INT32_BITS = 30
"""Magnitudes up to this width are held in int32, with headroom for the half that rounding adds."""

Rule = Callable[[Attributes, Sequence[str], str], str]
"""The Triton text of one operation on its operands' texts, in the working type ``int32`` or ``int64``."""

STORAGE = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


def storage_type(interval: Interval) -> torch.dtype:
    """The narrowest type that holds all codes in memory; int64 at the widest."""
    for dtype in STORAGE:
        limits = torch.iinfo(dtype)
        if limits.min <= interval.low and interval.high <= limits.max:
            return dtype
    return torch.int64


def register_type(interval: Interval) -> str:
    """The Triton type in which a kernel computes with codes of an interval."""
    return "int32" if interval.magnitude.bit_length() <= INT32_BITS else "int64"


def is_number(text: str) -> bool:
    """Whether an operand's text is a constant."""
    return text.strip("(-)").isdigit()


def _plain(text: str) -> Rule:
    return lambda _, operands, work: text.format(*operands, work=work)


def _extreme(name: str) -> Rule:
    return lambda _, operands, work: f"tl.{name}({', '.join(sorted(operands, key=is_number))})"


def _compare(sign: str, swapped: str) -> Rule:
    def rule(_: Attributes, operands: Sequence[str], work: str) -> str:
        first, second = operands
        return f"({second} {swapped} {first})" if is_number(first) else f"({first} {sign} {second})"

    return rule


def _tensor(text: str, work: str) -> str:
    """A constant as a scalar of the working type, where Triton needs one."""
    return f"tl.cast({text}, tl.{work})" if is_number(text) else text


def _most_bits(work: str) -> int:
    return 31 if work == "int32" else 63


def _shift_right_variable(_: Attributes, operands: Sequence[str], work: str) -> str:
    return f"{_tensor(operands[0], work)} >> tl.minimum({operands[1]}, {_most_bits(work)})"


def _shift_left_within(attributes: Attributes, operands: Sequence[str], work: str) -> str:
    shifted = f"({_tensor(operands[0], work)} << {operands[1]})"
    return shifted if attributes[0] > INT64_BITS else f"{shifted} & {(1 << attributes[0]) - 1}"


def _round(attributes: Attributes, operands: Sequence[str], work: str) -> str:
    shift, mode = attributes
    (a,) = operands
    half = 1 << (shift - 1)
    match Rounding(mode):
        case Rounding.FLOOR:
            return f"{a} >> {shift}"
        case Rounding.TOWARD_ZERO:
            return f"({a} + tl.where({a} < 0, {2 * half - 1}, 0)) >> {shift}"
        case Rounding.HALF_UP:
            return f"({a} + {half}) >> {shift}"
        case Rounding.HALF_DOWN:
            return f"({a} + {half - 1}) >> {shift}"
        case Rounding.HALF_EVEN:
            return f"({a} + {half - 1} + (({a} >> {shift}) & 1)) >> {shift}"
        case Rounding.HALF_ZERO:
            return f"({a} + {half - 1} + ({a} < 0).to(tl.{work})) >> {shift}"
        case _:
            return f"({a} + {half - 1} + ({a} >= 0).to(tl.{work})) >> {shift}"


def _wrap(attributes: Attributes, operands: Sequence[str], work: str) -> str:
    width, signed = attributes
    mask, low = (1 << width) - 1, 1 << (width - 1)
    return f"(({operands[0]} + {low}) & {mask}) - {low}" if signed else f"{operands[0]} & {mask}"


RULES: dict[str, Rule] = {
    "add": _plain("{} + {}"),
    "sub": _plain("{} - {}"),
    "mul": _plain("{} * {}"),
    "neg": _plain("0 - {}"),
    "abs": _plain("tl.abs({})"),
    "max": _extreme("maximum"),
    "min": _extreme("minimum"),
    "shl": lambda attributes, operands, work: f"{operands[0]} * {1 << attributes[0]}",
    "shr": lambda attributes, operands, work: f"{operands[0]} >> {min(attributes[0], _most_bits(work))}",
    "shlv": lambda _, operands, work: f"{operands[0]} * (tl.cast(1, tl.{work}) << {operands[1]})",
    "shlw": _shift_left_within,
    "shrv": _shift_right_variable,
    "eq": _compare("==", "=="),
    "lt": _compare("<", ">"),
    "le": _compare("<=", ">="),
    "select": _plain("tl.where({} != 0, {}, {})"),
    "and": _plain("{} & {}"),
    "or": _plain("{} | {}"),
    "xor": _plain("{} ^ {}"),
    "round": _round,
    "wrap": _wrap,
    "lzc": lambda attributes, operands, work: f"{attributes[0]} - bit_length({operands[0]}, {work == 'int64'})",
}
"""The rule of every scalar operation; ``table`` has its own, because it loads from memory."""

_BOOLEAN = ("eq", "lt", "le")


def _bits_needed(node: ScalarNode, operands: Sequence[Interval]) -> int:
    """Bits of the largest magnitude that computing a node meets; above 62 it has no Triton form."""
    bits = max(each.magnitude.bit_length() for each in (node.interval, *operands))
    if node.op in ("round", "wrap"):
        amount = int(node.attributes[0])
    elif node.op in ("shlv", "shlw"):
        amount = operands[1].high
    else:
        return bits
    return max(bits, amount) if amount < INT64_BITS else INT64_BITS + 1


@lru_cache(maxsize=4096)
def is_narrow(expression: Expression) -> bool:
    """Whether every step of the expression fits int64."""
    for node in expression.nodes:
        operands = [expression.nodes[arg].interval for arg in node.args]
        if _bits_needed(node, operands) > INT64_BITS:
            return False
        if node.op == "table" and Interval.of(np.asarray(node.attributes[1], dtype=object)).magnitude >> INT64_BITS:
            return False
    return True


@lru_cache(maxsize=4096)
def operands_read(expression: Expression) -> tuple[tuple[int, Interval], ...]:
    """The position and interval of every operand that the expression reads."""
    uses = expression.uses()
    return tuple(
        (int(node.attributes[0]), node.interval)
        for index, node in enumerate(expression.nodes)
        if node.op == "input" and uses[index]
    )


@dataclass(frozen=True, slots=True)
class Printed:
    """Statements, the text of the result, its register type, and the tables as (name, entries)."""

    lines: tuple[str, ...]
    result: str
    work: str
    tables: tuple[tuple[str, IntegerArray], ...]


def print_expression(expression: Expression, operands: Sequence[str], mask: str, prefix: str = "") -> Printed:
    """The expression on variables that hold its operands, each in :func:`register_type` of its interval.

    ``mask`` guards table loads; ``prefix`` starts the names of temporaries and tables. Raises GW0520 where a
    node exceeds 62 bits.
    """
    if not is_narrow(expression):
        raise error(
            "GW0520",
            "an expression wider than 62 bits has no Triton form",
            note=f"its result lies in {expression.interval}",
            help="cast to a narrower format earlier, or run on the CPU, where integers have any width",
        )
    names: list[str] = []
    lines: list[str] = []
    tables: list[tuple[str, IntegerArray]] = []
    for index, node in enumerate(expression.nodes):
        if node.op == "input":
            names.append(operands[int(node.attributes[0])])
        elif node.op == "constant":
            value = int(node.attributes[0])
            names.append(str(value) if value >= 0 else f"({value})")
        else:
            names.append(f"{prefix}t{index}")
            if node.op == "table":
                text = _table(expression, node, names, mask, f"{prefix}table{len(tables)}", tables)
            else:
                text = _text(expression, node, names)
            lines.append(f"{names[-1]} = {text}")
    return Printed(tuple(lines), names[expression.result], register_type(expression.interval), tuple(tables))


def _text(expression: Expression, node: ScalarNode, names: Sequence[str]) -> str:
    intervals = [expression.nodes[arg].interval for arg in node.args]
    work = "int32" if _bits_needed(node, intervals) <= INT32_BITS else "int64"
    result = register_type(node.interval)
    operands = [_converted(names[arg], interval, work) for arg, interval in zip(node.args, intervals, strict=True)]
    text = RULES[node.op](node.attributes, operands, work)
    if node.op in _BOOLEAN:
        return f"{text}.to(tl.{result})"
    constant_choice = node.op == "select" and all(is_number(each) for each in operands[1:])
    return f"({text}).to(tl.{result})" if work != result or constant_choice else text


def _converted(name: str, interval: Interval, work: str) -> str:
    return name if is_number(name) or register_type(interval) == work else f"{name}.to(tl.{work})"


def _table(
    expression: Expression,
    node: ScalarNode,
    names: Sequence[str],
    mask: str,
    table: str,
    tables: list[tuple[str, IntegerArray]],
) -> str:
    offset, entries = node.attributes
    tables.append((table, np.asarray(entries, dtype=np.int64)))
    argument = names[node.args[0]]
    index = f"{argument} - {offset}" if offset >= 0 else f"{argument} + {-offset}"
    return f"tl.load({table} + ({index}), mask={mask}, other=0).to(tl.{register_type(node.interval)})"
