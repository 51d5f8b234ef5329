"""An independent model of casts: look the neighbours up in the sorted list of all values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gatewright.ir.formats import Rounding, ScalarFormat

Reals = npt.NDArray[np.float64]


def finite_values(form: ScalarFormat) -> Reals:
    """All finite values, sorted, each once; up to 12 bits one at a time, as exact fractions."""
    low, high = form.code_interval()
    codes = np.arange(low, high + 1)
    codes = codes[~form.is_special(codes)]
    if form.width > 12:
        return np.unique(form.decode(codes)) + 0.0
    return np.unique([float(form.decode_fraction(int(code))) for code in codes]) + 0.0


def hard_reals(values: Reals) -> Reals:
    """Every value, every midpoint, their float64 and float32 neighbours, and numbers beyond both ends."""
    middles = (values[1:] + values[:-1]) / 2
    top = np.abs(values).max()
    base = np.concatenate([values, middles, [top * 1.01, top * 1.5, top * 2, top * 1e6, -top * 1e6, 1e-300]])
    with np.errstate(over="ignore"):
        single = base.astype(np.float32)
        near32 = np.concatenate([np.nextafter(single, np.float32(np.inf)), np.nextafter(single, np.float32(-np.inf))])
    near32 = near32[np.isfinite(near32)].astype(np.float64)
    near64 = np.concatenate([np.nextafter(base, np.inf), np.nextafter(base, -np.inf)])
    return np.concatenate([base, near32, near64])


def nearest(values: Reals, reals: Reals, rounding: Rounding) -> Reals:
    """The cast of `reals` onto the grid `values`, saturating."""
    clipped = np.clip(reals, values[0], values[-1])
    upper_index = np.searchsorted(values, clipped, side="left")
    upper = values[upper_index]
    lower = np.where(upper == clipped, upper, values[np.maximum(upper_index - 1, 0)])
    exact = upper == lower
    gap = np.where(exact, 1.0, upper - lower)
    # Fractions of the gap: compared without rounding, because both differences are exact near a tie.
    middle = lower + gap / 2
    tie = clipped == middle
    above = clipped > middle
    zeroward = np.where(lower >= 0, lower, upper)
    choices = {
        Rounding.FLOOR: lower,
        Rounding.TOWARD_ZERO: zeroward,
        Rounding.HALF_UP: upper,
        Rounding.HALF_DOWN: lower,
        Rounding.HALF_EVEN: np.where(np.fmod(lower / gap, 2) == 0, lower, upper),
        Rounding.HALF_ZERO: zeroward,
        Rounding.HALF_AWAY: lower + upper - zeroward,
    }
    directed = rounding in (Rounding.FLOOR, Rounding.TOWARD_ZERO)
    rounded = choices[rounding] if directed else np.where(tie, choices[rounding], np.where(above, upper, lower))
    return np.where(exact, lower, rounded)
