"""Constant weights in scaled binary, ternary and residual-sign formats: signs, and a scale per tensor or channel.

The product is made with the signs alone (one per level); each level's sum is then multiplied by its scale,
exactly, and the levels are added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.builder import Builder
from gatewright.ir.decoding import decoded_integers, lowest_exponent
from gatewright.ir.expressions import Term
from gatewright.ir.formats import CastSpec, Exact, ScaledSigns
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.types import Value


@dataclass(frozen=True, slots=True)
class ScaledWeights:
    """Per level the codes [out, in] of the element format, and the scales [out] or [1] as exact integers."""

    levels: tuple[Value, ...]
    scales: tuple[Value, ...]
    format: ScaledSigns


def scaled_weights(builder: Builder, real: IntegerArray, spec: CastSpec, name: str) -> ScaledWeights:
    """A constant [out, in] rounded into a scaled format."""
    format = spec.format
    assert isinstance(format, ScaledSigns)
    codes, scales = format.encode(real, 0, spec.rounding, spec.overflow)
    if bool(format.scale.is_special(scales).any()):
        raise error("GW0389", f"{name} holds NaN or infinity, which no hardware weight can be")
    integers = decoded_integers(format.scale, scales).astype(object)
    common = np.bitwise_or.reduce(integers, axis=None)
    # Zeros that all scales end with belong to the fraction.
    spare = max((int(common) & -int(common)).bit_length() - 1, 0)
    frac = -lowest_exponent(format.scale) - spare
    bits = format.element.width
    levels = [(codes >> (level * bits)) & ((1 << bits) - 1) for level in range(format.levels)]
    return ScaledWeights(
        tuple(builder.integers(each, format.element, name) for each in levels),
        tuple(
            builder.integers(integers[:, level] >> spare, Exact(frac), f"{name}_scale")
            for level in range(format.levels)
        ),
        format,
    )


def scaled_linear(builder: Builder, value: Value, weight: ScaledWeights) -> Value:
    """``value @ weight.T``, exactly."""
    lead = " ".join(f"r{axis}" for axis in range(len(value.shape) - 1))
    total: Value | None = None
    for codes, scale in zip(weight.levels, weight.scales, strict=True):
        dots = builder.contract(f"{lead} k, n k -> {lead} n", value, codes)
        product = builder.map(_product, dots, scale, frac=dots.frac + scale.frac)
        total = product if total is None else builder.map(_sum, total, product, frac=product.frac)
    assert total is not None
    return total


def _product(first: Term, second: Term) -> Term:
    return first * second


def _sum(first: Term, second: Term) -> Term:
    return first + second
