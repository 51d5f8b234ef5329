"""Constant weights in scaled binary, ternary and residual-sign formats: signs, and a scale per tensor or channel.

The product is made with the signs alone, those of all levels beside one another; each level's sum is then
multiplied by its scale, exactly, and the levels are added.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Codes ``signs`` [out x levels, ...] of the element format, ``scales`` [out or 1, levels] as exact integers."""

    signs: Value
    scales: Value
    format: ScaledSigns


def scaled_weights(builder: Builder, real: IntegerArray, spec: CastSpec, name: str) -> ScaledWeights:
    """A constant [out, ...] rounded into a scaled format."""
    format = spec.format
    assert isinstance(format, ScaledSigns)
    codes, scales = format.encode(real, 0, spec.rounding, spec.overflow)
    if bool(format.scale.is_special(scales).any()):
        raise error("GW0389", f"{name} holds NaN or infinity, which no hardware weight can be")
    codes = np.atleast_1d(codes)
    integers = decoded_integers(format.scale, scales).astype(object)
    common = np.bitwise_or.reduce(integers, axis=None)
    # Zeros that all scales end with belong to the fraction.
    spare = max((int(common) & -int(common)).bit_length() - 1, 0)
    frac = -lowest_exponent(format.scale) - spare
    bits = format.element.width
    levels = np.stack([(codes >> (level * bits)) & ((1 << bits) - 1) for level in range(format.levels)], axis=1)
    return ScaledWeights(
        builder.integers(levels.reshape(-1, *codes.shape[1:]), format.element, name),
        builder.integers(integers >> spare, Exact(frac), f"{name}_scale"),
        format,
    )


def scaled_product(builder: Builder, weight: ScaledWeights, product: Callable[[Value], Value]) -> Value:
    """The exact product with scaled weights: ``product`` gives that with the signs, its outputs on the last axis."""
    from gatewright.ir.ops.reduce import Reduce

    levels = weight.format.levels
    dots = product(weight.signs)
    lead, outputs = dots.shape[:-1], dots.shape[-1] // levels
    dots = builder.reshape(dots, (*lead, outputs, levels))
    scaled = builder.map(_product, dots, weight.scales, frac=dots.frac + weight.scales.frac)
    if levels > 1:
        scaled = builder.add(Reduce("sum", (len(lead) + 1,)), scaled)
    return builder.reshape(scaled, (*lead, outputs))


def _product(first: Term, second: Term) -> Term:
    return first * second
