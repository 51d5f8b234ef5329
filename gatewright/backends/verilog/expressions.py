"""Prints scalar expressions as SystemVerilog.

Every node is a signal as wide as its interval, signed where that has negative values. Operands are
brought to a common width with size casts, which extend by the operand's own sign; arithmetic is
then exact modulo the result's width. No signal is part-selected, so that no bit counts as unused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gatewright.ir.expressions import Expression, ScalarNode
from gatewright.ir.intervals import Interval


def declaration(interval: Interval) -> str:
    """The type of a signal that holds the interval."""
    return f"logic signed [{interval.width - 1}:0]" if interval.signed else f"logic [{interval.width - 1}:0]"


def literal(value: int, width: int) -> str:
    """A sized constant; negative values are signed."""
    if value >= 0:
        return f"{width}'d{value}"
    if -value < 1 << (width - 1):
        return f"-{width}'sd{-value}"
    return f"{width}'sh{value & ((1 << width) - 1):x}"


@dataclass(frozen=True, slots=True)
class Operand:
    """An operand's text and interval."""

    text: str
    interval: Interval
    constant: int | None = None

    def at(self, width: int) -> str:
        """The operand modulo 2^width, extended by its sign."""
        if self.constant is not None:
            return literal(_modulo(self.constant, width), width)
        if self.interval.width <= width:
            return sized(self.text, self.interval.width, width)
        # The mask reads all bits: none counts as unused.
        return f"{width}'({self.text} & {literal((1 << width) - 1, self.interval.width)})"

    def signed_at(self, width: int) -> str:
        """The operand as a signed term of ``width`` bits, which must hold it."""
        if self.constant is not None:
            return f"signed'({literal(_modulo(self.constant, width), width)})"
        if self.interval.signed:
            return self.at(width)
        extended = f"signed'({{1'b0, {self.text}}})"
        return extended if width == self.signed_width else f"{width}'({extended})"

    @property
    def signed_width(self) -> int:
        """Bits of the operand as a signed number."""
        return self.interval.width + (not self.interval.signed)


def sized(text: str, width: int, wanted: int) -> str:
    """An expression of ``width`` bits as a self-determined one of ``wanted``; no cast where none is needed."""
    if width != wanted:
        return f"{wanted}'({text})"
    return text if text.isidentifier() or text.startswith("{") else f"{{{text}}}"


def _modulo(value: int, width: int) -> int:
    """``value`` as it is where ``width`` bits hold it, else its low bits."""
    fits = -(1 << (width - 1)) <= value < 1 << width
    return value if fits else value & ((1 << width) - 1)


def _binary(symbol: str) -> Callable[[ScalarNode, list[Operand]], str]:
    def show(node: ScalarNode, operands: list[Operand]) -> str:
        width = node.interval.width
        return f"{operands[0].at(width)} {symbol} {operands[1].at(width)}"

    return show


def _multiply(node: ScalarNode, operands: list[Operand]) -> str:
    width = max(node.interval.width, *(each.signed_width for each in operands))
    product = f"{operands[0].signed_at(width)} * {operands[1].signed_at(width)}"
    return product if width == node.interval.width else f"{node.interval.width}'({product})"


def compare(symbol: str, operands: list[Operand]) -> str:
    """A comparison at a width and sign that hold both operands."""
    if any(each.interval.signed for each in operands):
        width = max(each.signed_width for each in operands)
        return f"{operands[0].signed_at(width)} {symbol} {operands[1].signed_at(width)}"
    width = max(each.interval.width for each in operands)
    return f"{operands[0].at(width)} {symbol} {operands[1].at(width)}"


def _comparison(symbol: str) -> Callable[[ScalarNode, list[Operand]], str]:
    return lambda _, operands: compare(symbol, operands)


def _extreme(symbol: str) -> Callable[[ScalarNode, list[Operand]], str]:
    def show(node: ScalarNode, operands: list[Operand]) -> str:
        width = node.interval.width
        return f"({compare(symbol, operands)}) ? {operands[0].at(width)} : {operands[1].at(width)}"

    return show


def _shift(operand: Operand, amount: int | str) -> str:
    return f"{operand.text} {'>>>' if operand.interval.signed else '>>'} {amount}"


def _shifted(operand: Operand, amount: int | str, width: int) -> str:
    if isinstance(amount, int) and amount >= operand.interval.width:
        if not operand.interval.signed:
            return literal(0, width)
        amount = operand.interval.width - 1
    return sized(_shift(operand, amount), operand.interval.width, width)


def _shift_right(node: ScalarNode, operands: list[Operand]) -> str:
    return _shifted(operands[0], node.attributes[0], node.interval.width)


def _round(node: ScalarNode, operands: list[Operand]) -> str:
    shift, mode = node.attributes
    (value,) = operands
    width = node.interval.width
    quotient = _shifted(value, shift, width)
    half = _shifted(value, shift - 1, 1)
    mask = (1 << min(shift - 1, value.interval.width)) - 1
    sticky = f"(({value.text} & {literal(mask, value.interval.width)}) != {literal(0, value.interval.width)})"
    if shift == 1:
        sticky = "1'b0"
    negative = f"({compare('<', [value, Operand('', Interval(0, 0), 0)])})" if value.interval.signed else "1'b0"
    odd = _shifted(value, shift, 1)
    increments = {
        "floor": "",
        "half_up": half,
        "half_even": f"{half} & ({sticky} | {odd})",
        "toward_zero": f"{negative} & ({half} | {sticky})",
        "half_zero": f"{half} & ({sticky} | {negative})",
        "half_down": f"{half} & {sticky}",
        "half_away": f"{half} & ({sticky} | !{negative})",
    }
    increment = increments[str(mode)]
    # Braces make the increment self-determined: one bit, whatever the sum's width.
    return f"{quotient} + {sized(f'{{{increment}}}', 1, width)}" if increment else quotient


def _absolute(node: ScalarNode, operands: list[Operand]) -> str:
    width = node.interval.width
    zero = Operand("", Interval(0, 0), 0)
    return f"({compare('<', [operands[0], zero])}) ? {_negated(operands[0], width)} : {operands[0].at(width)}"


def _negated(operand: Operand, width: int) -> str:
    """Brackets, because Yosys reads -8'(x) as a cast to a size of -8."""
    text = operand.at(width)
    return f"-{text}" if text.isidentifier() else f"-({text})"


def _select(node: ScalarNode, operands: list[Operand]) -> str:
    condition, if_true, if_false = operands
    width = node.interval.width
    test = f"{condition.text} != {literal(0, condition.interval.width)}"
    return f"({test}) ? {if_true.at(width)} : {if_false.at(width)}"


RULES: dict[str, Callable[[ScalarNode, list[Operand]], str]] = {
    "add": _binary("+"),
    "sub": _binary("-"),
    "mul": _multiply,
    "and": _binary("&"),
    "or": _binary("|"),
    "xor": _binary("^"),
    "neg": lambda node, operands: _negated(operands[0], node.interval.width),
    "abs": _absolute,
    "max": _extreme(">"),
    "min": _extreme("<"),
    "shl": lambda node, operands: f"{operands[0].at(node.interval.width)} << {node.attributes[0]}",
    "shr": _shift_right,
    "shlv": lambda node, operands: f"{operands[0].at(node.interval.width)} << {operands[1].text}",
    "shlw": lambda node, operands: f"{operands[0].at(node.interval.width)} << {operands[1].text}",
    "shrv": lambda node, operands: _shifted(operands[0], operands[1].text, node.interval.width),
    "eq": _comparison("=="),
    "lt": _comparison("<"),
    "le": _comparison("<="),
    "select": _select,
    "round": _round,
    "wrap": lambda node, operands: operands[0].at(node.interval.width),
}
"""One rule per scalar operation that is a plain expression; tables and leading-zero counts are statements."""


def operand_of(expression: Expression, index: int, text: str) -> Operand:
    """Node ``index`` as an operand written ``text``."""
    node = expression.nodes[index]
    constant = node.attributes[0] if node.is_constant else None
    return Operand(literal(constant, node.interval.width) if constant is not None else text, node.interval, constant)
