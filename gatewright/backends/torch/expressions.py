"""Prints a scalar integer expression as PyTorch on int64 tensors, exact on a CPU and on a GPU.

One rule per row of :data:`gatewright.ir.scalar_ops.SCALAR_OPS`. Where a node could leave int64, the whole
expression is evaluated in Python integers on the host instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewright.ir.expressions import Expression, ScalarNode
from gatewright.ir.formats import Rounding
from gatewright.ir.intervals import IntegerArray, Interval, fits_int64
from gatewright.ir.scalar_ops import Attributes

Codes = Tensor | IntegerArray
"""Integer codes: an int64 tensor, or an object array of Python integers where int64 is too narrow."""

_SHIFT_LIMIT = 61


Rule = Callable[[Attributes, Sequence[str]], str]
"""The PyTorch text of one operation on its operands' texts (names or numbers)."""


def _is_number(text: str) -> bool:
    return text.strip("(-)").isdigit()


def _extreme(name: str, scalar: str) -> Rule:
    def rule(_: Attributes, operands: Sequence[str]) -> str:
        first, second = sorted(operands, key=_is_number)
        function = scalar if _is_number(second) else name
        return f"torch.{function}({first}, {second})"

    return rule


def _plain(text: str) -> Rule:
    def rule(_: Attributes, operands: Sequence[str]) -> str:
        return text.format(*operands)

    return rule


def _round(attributes: Attributes, operands: Sequence[str]) -> str:
    shift, mode = attributes
    (a,) = operands
    half = 1 << (shift - 1)
    match Rounding(mode):
        case Rounding.FLOOR:
            return f"{a} >> {shift}"
        case Rounding.TOWARD_ZERO:
            return f"({a} + ({a} < 0) * {2 * half - 1}) >> {shift}"
        case Rounding.HALF_UP:
            return f"({a} + {half}) >> {shift}"
        case Rounding.HALF_DOWN:
            return f"({a} + {half - 1}) >> {shift}"
        case Rounding.HALF_EVEN:
            return f"({a} + {half - 1} + (({a} >> {shift}) & 1)) >> {shift}"
        case Rounding.HALF_ZERO:
            return f"({a} + {half - 1} + ({a} < 0)) >> {shift}"
        case _:
            return f"({a} + {half - 1} + ({a} >= 0)) >> {shift}"


def _wrap(attributes: Attributes, operands: Sequence[str]) -> str:
    width, signed = attributes
    mask = (1 << width) - 1
    low = 1 << (width - 1)
    return f"(({operands[0]} + {low}) & {mask}) - {low}" if signed else f"{operands[0]} & {mask}"


RULES: dict[str, Rule] = {
    "add": _plain("{} + {}"),
    "sub": _plain("{} - {}"),
    "mul": _plain("{} * {}"),
    "neg": _plain("-{}"),
    "abs": _plain("torch.abs({})"),
    "max": _extreme("maximum", "clamp_min"),
    "min": _extreme("minimum", "clamp_max"),
    "shl": lambda attributes, operands: f"{operands[0]} * {1 << attributes[0]}",
    "shr": lambda attributes, operands: f"{operands[0]} >> {min(attributes[0], 63)}",
    "shlv": _plain("{} * (1 << {})"),
    "shlw": lambda attributes, operands: f"({operands[0]} << {operands[1]}) & {(1 << attributes[0]) - 1}",
    "shrv": _plain("{} >> torch.clamp_max({}, 63)"),
    "eq": _plain("({} == {}).to(torch.int64)"),
    "lt": _plain("({} < {}).to(torch.int64)"),
    "le": _plain("({} <= {}).to(torch.int64)"),
    "select": _plain("torch.where({} != 0, {}, {})"),
    "and": _plain("{} & {}"),
    "or": _plain("{} | {}"),
    "xor": _plain("{} ^ {}"),
    "round": _round,
    "wrap": _wrap,
    "lzc": lambda attributes, operands: f"{attributes[0]} - bit_length({operands[0]})",
}
"""The rule of every scalar operation; ``table`` has its own, because it reads a tensor argument."""


def bit_length(value: Tensor) -> Tensor:
    """Bits of int64 codes from 0 to below 2^62: the exponent of float64, less one where that rounded up."""
    exponent = torch.frexp(value.double())[1].to(torch.int64)
    return exponent - ((1 << torch.clamp_min(exponent - 1, 0)) > value).to(torch.int64) * (value > 0)


@dataclass(frozen=True, slots=True, eq=False)
class TorchExpression:
    """A printed expression: its source, its tables, and whether int64 is wide enough for every node."""

    expression: Expression
    code: str
    tables: tuple[IntegerArray, ...]
    narrow: bool
    function: Callable[..., Tensor] | None

    def __call__(self, *operands: Codes, tables: tuple[Tensor, ...] | None = None) -> Codes:
        """The exact result for codes that broadcast together; ``tables`` on the operands' device, if kept."""
        if self.function is None or any(not isinstance(each, Tensor) for each in operands):
            return _on_host(self.expression, operands)
        tensors = [each for each in operands if isinstance(each, Tensor)]
        device = tensors[0].device if tensors else torch.device("cpu")
        kept = tables or tuple(torch.from_numpy(each).to(device) for each in self.tables)
        shape = np.broadcast_shapes(*(tuple(each.shape) for each in tensors))
        result = torch.as_tensor(self.function(*tensors, *kept), dtype=torch.int64, device=device)
        return result if tuple(result.shape) == shape else result.expand(shape)


@lru_cache(maxsize=1024)
def torch_expression(expression: Expression) -> TorchExpression:
    """``expression`` printed and compiled."""
    narrow = all(_is_narrow(expression, node) for node in expression.nodes)
    tables: list[IntegerArray] = []
    names: list[str] = []
    body: list[str] = []
    for index, node in enumerate(expression.nodes):
        if node.op == "input":
            names.append(f"x{node.attributes[0]}")
        elif node.op == "constant":
            value = int(node.attributes[0])
            names.append(str(value) if value >= 0 else f"({value})")
        else:
            arguments = [names[arg] for arg in node.args]
            body.append(f"t{index} = {_text(node, arguments, tables)}")
            names.append(f"t{index}")
    parameters = [f"x{index}" for index in range(expression.inputs)]
    parameters += [f"table{index}" for index in range(len(tables))]
    lines = [f"def function({', '.join(parameters)}):", *body, f"return {names[expression.result]}"]
    code = "\n    ".join(lines) + "\n"
    return TorchExpression(expression, code, tuple(tables), narrow, _compiled(code) if narrow else None)


def _text(node: ScalarNode, arguments: list[str], tables: list[IntegerArray]) -> str:
    if node.op != "table":
        return RULES[node.op](node.attributes, arguments)
    offset, entries = node.attributes
    wide = np.asarray(entries, dtype=object)
    tables.append(wide.astype(np.int64) if fits_int64(Interval.of(wide)) else wide)
    shifted = f"{arguments[0]} - {offset}" if offset >= 0 else f"{arguments[0]} + {-offset}"
    return f"table{len(tables) - 1}[{shifted}]"


def _is_narrow(expression: Expression, node: ScalarNode) -> bool:
    if not fits_int64(node.interval):
        return False
    if node.op in ("round", "wrap"):
        return int(node.attributes[0]) <= _SHIFT_LIMIT
    if node.op == "table":
        return fits_int64(Interval.of(np.asarray(node.attributes[1], dtype=object)))
    if node.op in ("shlv", "shlw"):
        return expression.nodes[node.args[1]].interval.high <= _SHIFT_LIMIT
    return True


def _compiled(code: str) -> Callable[..., Tensor]:
    space: dict[str, Any] = {"torch": torch, "bit_length": bit_length}
    exec(code, space)  # noqa: S102 (text printed from an expression)
    function: Callable[..., Tensor] = space["function"]
    return function


def to_host(codes: Codes) -> IntegerArray:
    """Codes as a numpy array."""
    return codes.detach().cpu().numpy() if isinstance(codes, Tensor) else codes


def from_host(array: IntegerArray, device: torch.device) -> Codes:
    """An integer array as an int64 tensor on ``device`` where its values fit, else as it is."""
    if array.dtype == object:
        if array.size and not fits_int64(Interval.of(array)):
            return array
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array)).to(device)


def _on_host(expression: Expression, operands: tuple[Codes, ...]) -> Codes:
    device = next((each.device for each in operands if isinstance(each, Tensor)), torch.device("cpu"))
    return from_host(np.asarray(expression.evaluate(*(to_host(each) for each in operands))), device)
