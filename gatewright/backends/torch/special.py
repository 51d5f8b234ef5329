"""NaN and infinity in a printed module: they count as in the hardware's integers.

A cast at an input port, or one that overflows to infinity, can give values that no integer has. Arithmetic on the
codes counts NaN as 0 and an infinity as the largest finite value of its sign. A NaN that comes from a
parameter stays NaN, so that a training that diverges shows: hardware never has such a parameter.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gatewright.backends.torch.exporting import exporting
from gatewright.backends.torch.texts import MOVEMENTS, result_cast
from gatewright.ir.formats import Block, Fixed, Format, Overflow, SignificandFormat
from gatewright.ir.functions import FUNCTIONS
from gatewright.ir.graph import Graph, Node
from gatewright.ir.operator import Operator
from gatewright.ir.ops.cast import Cast
from gatewright.ir.types import Value
from gatewright.ir.unary import UnaryFunction


def counted(value: Tensor, largest: float = math.inf) -> Tensor:
    """``value`` with NaN as 0 and infinities as ``largest``; unchanged while a model is exported."""
    if exporting():
        return value
    return torch.nan_to_num(value, nan=0.0, posinf=largest, neginf=-largest)


def port_values(graph: Graph) -> set[Value]:
    """The inputs, and what only moves their elements."""
    found = set(graph.inputs)
    for node in graph.nodes:
        if isinstance(node.op, MOVEMENTS) and node.inputs[0] in found:
            found.add(node.output)
    return found


def special_values(graph: Graph, ports: set[Value]) -> dict[Value, Format]:
    """The quantised values that may hold NaN or infinity, with their formats."""
    found: dict[Value, Format] = {}
    for node in graph.nodes:
        op, first = node.op, node.inputs[0] if node.inputs else None
        spec = op.spec if isinstance(op, Cast) else result_cast(op)
        if spec is not None:
            arises = first in ports or spec.overflow is Overflow.INFINITE or _gives_nan(op, first in found)
            if has_specials(spec.format) and (arises or (isinstance(spec.format, Block) and first in found)):
                found[node.output] = spec.format
        elif isinstance(op, MOVEMENTS) and first in found and len({found.get(each) for each in node.inputs}) == 1:
            found[node.output] = found[first]
    return found


def _gives_nan(op: Operator, operand_is_special: bool) -> bool:
    """Whether a function hands NaN on, or is not defined at every number."""
    if not isinstance(op, UnaryFunction):
        return False
    return operand_is_special or not np.isfinite(FUNCTIONS[op.function].fast(np.array([-1.0, 0.0]))).all()


def has_specials(format: Format) -> bool:
    """Whether a cast to ``format`` can give NaN or infinity."""
    if isinstance(format, Block):
        return has_specials(format.scale) or has_specials(format.element)
    return isinstance(format, SignificandFormat) and (format.has_nan or format.has_infinity)


def counted_text(text: str, format: Format | None) -> str:
    """``text``, a value of ``format`` that may be special, as integer arithmetic takes it."""
    if isinstance(format, SignificandFormat) and format.has_infinity:
        return f"gw.counted({text}, {float(format.largest)!r})"
    return f"gw.counted({text})"


def operand_texts(node: Node, texts: list[str], special: dict[Value, Format]) -> list[str]:
    """The operands' texts; those that may be special are counted unless the node hands them on as codes."""
    if isinstance(node.op, UnaryFunction) and node.op.result is not None:
        return texts
    blocks = isinstance(node.op, Cast) and isinstance(node.op.spec.format, Block)
    if blocks or (isinstance(node.op, MOVEMENTS) and node.output in special):
        return texts
    return [
        counted_text(text, special[value]) if value in special else text
        for text, value in zip(texts, node.inputs, strict=True)
    ]


def without_negative_zero(value: Tensor) -> Tensor:
    """``value`` with -0 as 0, as integers have it; unchanged while a model is exported."""
    return value if exporting() else value + 0.0


def codes_read(graph: Graph) -> set[Value]:
    """The values whose very codes a function looks up, so that -0 is not 0."""
    found: set[Value] = set()
    for node in reversed(graph.nodes):
        if isinstance(node.op, UnaryFunction) or (isinstance(node.op, MOVEMENTS) and node.output in found):
            found.update(node.inputs)
    return found


def cast_operand_text(node: Node, text: str, ports: set[Value], codes: set[Value]) -> str:
    """The operand of a cast: at a port, NaN is the code 0 of a format that has none; behind one, there is no -0."""
    assert isinstance(node.op, Cast)
    if node.inputs[0] in ports:
        return f"gw.counted({text})" if isinstance(node.op.spec.format, Fixed) else text
    signed = isinstance(node.op.spec.format, SignificandFormat) and node.op.spec.format.is_signed
    return f"gw.without_negative_zero({text})" if signed and node.output in codes else text
