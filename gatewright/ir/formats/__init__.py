"""Number formats: sets of real values with bit codes, exact `encode` and `decode`, and names that parse back.

Rounding and overflow belong to a cast, not to a format. See docs/formats.md for every format's definition.
"""

from gatewright.ir.formats.base import Format, Real, ScalarFormat
from gatewright.ir.formats.block import Block
from gatewright.ir.formats.fixed import Exact, Fixed
from gatewright.ir.formats.floating import Float, Log, PowerOfTwo, Specials
from gatewright.ir.formats.grouped import GroupFormat
from gatewright.ir.formats.names import CastSpec, Gradient, cast_to, known_names, parse_cast, parse_format
from gatewright.ir.formats.rounding import (
    DETERMINISTIC_ROUNDINGS,
    Integers,
    Overflow,
    Rounding,
    apply_overflow,
    as_integers,
    narrowed,
    no_infinity,
    round_scaled,
)
from gatewright.ir.formats.scaled import (
    Grouping,
    ResidualSign,
    ScaledBinary,
    ScaledSigns,
    ScaledTernary,
    Statistic,
)
from gatewright.ir.formats.significand import SignificandFormat, Underflow
from gatewright.ir.formats.signs import Binary, Ternary

__all__ = [
    "DETERMINISTIC_ROUNDINGS",
    "Binary",
    "Block",
    "CastSpec",
    "Exact",
    "Fixed",
    "Float",
    "Format",
    "Gradient",
    "GroupFormat",
    "Grouping",
    "Integers",
    "Log",
    "Overflow",
    "PowerOfTwo",
    "Real",
    "ResidualSign",
    "Rounding",
    "ScalarFormat",
    "ScaledBinary",
    "ScaledSigns",
    "ScaledTernary",
    "SignificandFormat",
    "Specials",
    "Statistic",
    "Ternary",
    "Underflow",
    "apply_overflow",
    "as_integers",
    "cast_to",
    "known_names",
    "narrowed",
    "no_infinity",
    "parse_cast",
    "parse_format",
    "round_scaled",
]
