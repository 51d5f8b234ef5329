"""What a schedule may be asked for: an interval, a rate or a budget, checked before any work is done."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, cast

from gatewright.diagnostics import error, nearest

RESOURCES = ("lut", "ff", "dsp", "bram")


def check_goals(interval: Any, fps: Any, budget: Any) -> None:
    """At most one goal, of the right type and in range.

    Raises GW0704 for several goals, GW0705 for a rate that is not a positive number, GW0707 for an
    interval that is not a whole number of at least 1, GW0708 for a budget that says nothing.
    """
    goals = (("interval", interval), ("fps", fps), ("budget", budget))
    given = [name for name, value in goals if value is not None]
    if len(given) > 1:
        raise error("GW0704", f"{' and '.join(given)} are given together", help="give only one of them")
    if interval is not None:
        _check_interval(interval)
    if fps is not None and (not is_number(fps) or not math.isfinite(fps) or fps <= 0):
        raise error("GW0705", f"fps is {_shown(fps)}", help="ask for more than 0 samples a second")
    if budget is not None:
        check_budget(budget)


def goal_text(clock_mhz: float, interval: int | None, fps: float | None, budget: Mapping[str, float] | None) -> str:
    """A checked goal in words."""
    if interval is not None:
        return f"a sample every {interval:,} cycles"
    if fps is not None:
        return f"{fps:,g} samples/s at {clock_mhz:g} MHz, a sample every {int(clock_mhz * 1e6 // fps):,} cycles"
    if budget is not None:
        return f"the fastest within {', '.join(f'{amount:,g} {name}' for name, amount in budget.items())}"
    return "the smallest design"


def _check_interval(interval: Any) -> None:
    if isinstance(interval, bool) or not isinstance(interval, Integral):
        raise error(
            "GW0707",
            f"the interval is {_shown(interval)}",
            note="it counts clock cycles between samples",
            help="give a whole number such as interval=64; for samples a second there is fps=...",
        )
    if int(interval) < 1:
        raise error("GW0707", f"the interval is {interval} cycles", help="ask for interval=1 or more")


def check_budget(budget: Any) -> None:
    """Raise GW0708 for what is no mapping of resources, and for unknown resources or amounts."""
    if not isinstance(budget, Mapping):
        raise error(
            "GW0708",
            f"the budget is {_shown(budget)}",
            help="give a dictionary such as budget=dict(lut=5000, dsp=20)",
        )
    for name, amount in cast(Mapping[Any, Any], budget).items():
        if name not in RESOURCES:
            close = nearest(str(name), RESOURCES)
            raise error(
                "GW0708",
                f"unknown resource `{name}` in the budget",
                note=f"known: {', '.join(RESOURCES)}",
                help=f"did you mean `{close}`?" if close else "name one of these",
            )
        if not is_number(amount) or math.isnan(amount) or amount < 0:
            shown = amount if is_number(amount) else _shown(amount)
            raise error("GW0708", f"the budget allows {shown} {name}", help="give 0 or more")


def is_number(value: Any) -> bool:
    """Whether ``value`` is a real number; True and False are none."""
    return not isinstance(value, bool) and isinstance(value, Real)


def _shown(value: Any) -> str:
    return f"{value}" if is_number(value) else f"{value!r}, a {type(value).__name__}"
