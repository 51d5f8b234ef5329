"""Number formats: sets of real values with bit codes, exact `encode` and `decode`, and names that parse back.

Rounding and overflow belong to a cast, not to a format. See docs/formats.md for every format's definition.
"""

from gatewright.ir.formats.base import Format, Real, ScalarFormat
from gatewright.ir.formats.fixed import Exact, Fixed
from gatewright.ir.formats.names import CastSpec, cast_to, known_names, parse_cast, parse_format
from gatewright.ir.formats.rounding import (
    DETERMINISTIC_ROUNDINGS,
    Integers,
    Overflow,
    Rounding,
    apply_overflow,
    as_integers,
    narrowed,
    round_scaled,
)

__all__ = [
    "DETERMINISTIC_ROUNDINGS",
    "CastSpec",
    "Exact",
    "Fixed",
    "Format",
    "Integers",
    "Overflow",
    "Real",
    "Rounding",
    "ScalarFormat",
    "apply_overflow",
    "as_integers",
    "cast_to",
    "known_names",
    "narrowed",
    "parse_cast",
    "parse_format",
    "round_scaled",
]
