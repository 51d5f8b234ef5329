"""A model's constants as quantisation sees them: values, exact format, and whether a format holds them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from gatewright.backends.torch.evaluate import run_real
from gatewright.backends.torch.texts import streams_of
from gatewright.diagnostics import Diagnostic, diagnostic
from gatewright.ir.formats import CastSpec, Fixed
from gatewright.ir.graph import Graph, Node
from gatewright.ir.operator import RealArray
from gatewright.ir.types import Value

LOSSLESS_BITS = 24
"""Literals of up to this many bits keep their exact value."""


def constant_arrays(graph: Graph) -> dict[Value, RealArray]:
    """The real values (float64) of everything that does not depend on an input."""
    streams = streams_of(graph)
    nodes = tuple(node for node in graph.nodes if node.output not in streams)
    found: dict[Value, RealArray] = {}
    run_real(
        Graph(graph.name, (), (), nodes),
        [],
        lambda value, tensor: found.__setitem__(value, tensor.double().numpy()),
    )
    return found


def lossless_cast(array: RealArray) -> CastSpec | None:
    """The narrowest fixed-point format that holds ``array`` exactly, where at most 24 bits do."""
    values = np.unique(np.asarray(array, dtype=np.float64))
    if values.size > 1 << LOSSLESS_BITS or not bool(np.isfinite(values).all()):
        return None
    numbers = [Fraction(float(each)) for each in values if each != 0]
    if not numbers:
        return CastSpec(Fixed(1, 0, signed=False))
    frac = max(each.denominator.bit_length() - 1 for each in numbers)
    if frac == 0:
        frac = -min((each.numerator & -each.numerator).bit_length() - 1 for each in numbers)
    codes = [each * Fraction(2) ** frac for each in numbers]
    signed = min(codes) < 0
    magnitude = max(int(code) if code >= 0 else -int(code) - 1 for code in codes)
    width = max(magnitude.bit_length() + signed, 1)
    return CastSpec(Fixed(width, frac, signed)) if width <= LOSSLESS_BITS else None


def range_problem(array: RealArray, spec: CastSpec, value: Value, role: str, node: Node) -> Diagnostic | None:
    """GW0229 where the constant leaves the format's range by more than one rounding step; never for auto."""
    format = spec.format
    if not isinstance(format, Fixed) or format.frac is None or array.size == 0:
        return None
    step = 2.0**-format.frac
    lowest, highest = format.code_interval()
    low, high = lowest * step, highest * step
    smallest, largest = float(array.min()), float(array.max())
    if low - step <= smallest and largest <= high + step:
        return None
    worst = largest if largest - high > low - smallest else smallest
    sign = not format.signed and worst < 0
    code = worst / step
    needed = max(1, math.ceil(math.log2(max(abs(code) + (worst > 0), 1)))) + (format.signed or sign)
    wider = Fixed(max(needed, format.width), format.frac, format.signed or sign)
    coarser = Fixed(format.width, format.frac - (needed - format.width), format.signed or sign)
    return diagnostic(
        "GW0229",
        f"{format} cannot hold {value.name}",
        location=node.location,
        note=[
            f"the values run from {smallest:.6g} to {largest:.6g}",
            f"{format}: {lowest} x 2^{-format.frac} = {low:g} to {highest} x 2^{-format.frac} = {high:g}",
        ],
        help=_range_help(role, wider, coarser),
    )


def _range_help(role: str, wider: Fixed, coarser: Fixed) -> str:
    auto = Fixed(coarser.width, None, coarser.signed)
    if wider == coarser:
        return f'write {role} = "{wider}", or "{auto}" to let the constant decide'
    return (
        f'write {role} = "{wider}" to keep the step, "{coarser}" to keep the width, '
        f'or "{auto}" to let the constant decide'
    )
