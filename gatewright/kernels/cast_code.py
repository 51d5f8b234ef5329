# pyright: basic
# ruff: noqa: SIM108 - an `if` over constants is resolved while compiling; a ternary reads as a select
"""Device functions that cast float32 to fixed-point and floating-point codes of any size.

``CAST`` is the text of a cast, as ``str(CastSpec)`` prints it; its numbers are read while the kernel is compiled.
:func:`gatewright.kernels.outputs.encoded_in_kernel` says which casts these functions are.
"""

from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl

from gatewright.ir.formats import Fixed, Overflow, parse_cast


@dataclass(frozen=True)
class Casts:
    """Casts by their text. An object, because functions evaluated while compiling may call no ordinary function."""

    def __getitem__(self, text: str) -> Any:
        """The cast; its format is any scalar one."""
        return parse_cast(text)


CASTS = Casts()


@triton.constexpr_function
def is_scalar(cast):
    return " " in cast  # a block format's name is one word


@triton.constexpr_function
def is_fixed(cast):
    return isinstance(CASTS[cast].format, Fixed)


@triton.constexpr_function
def fraction_factor(cast):
    return 2.0 ** CASTS[cast].format.fraction_bits


@triton.constexpr_function
def lowest_code(cast):
    low, high = CASTS[cast].format.code_interval()
    return max(low, -high) if CASTS[cast].overflow is Overflow.SATURATE_SYMMETRIC else low


@triton.constexpr_function
def highest_code(cast):
    return CASTS[cast].format.code_interval()[1]


@triton.constexpr_function
def rounding_of(cast) -> Any:
    return CASTS[cast].rounding.value


@triton.constexpr_function
def overflow_of(cast):
    return CASTS[cast].overflow.value


@triton.constexpr_function
def mantissa_of(cast):
    return CASTS[cast].format.mantissa


@triton.constexpr_function
def bias_of(cast):
    return CASTS[cast].format.exponent_bias


@triton.constexpr_function
def sign_place(cast):
    return CASTS[cast].format.layout.magnitude_bits


@triton.constexpr_function
def largest_of(cast):
    return float(CASTS[cast].format.largest)


@triton.constexpr_function
def nan_code(cast):
    return CASTS[cast].format.layout.nan or 0


@triton.jit
def encode_scalar(value, CAST: tl.constexpr):
    """The int32 codes of float32 values; NaN becomes the format's NaN, or 0."""
    if is_fixed(CAST):
        code = encode_fixed(value, CAST)
    else:
        code = encode_float(value, CAST)
    return code


@triton.jit
def encode_fixed(value, CAST: tl.constexpr):
    """Fixed point: the scaling is exact, and what lies beyond the codes is clipped one code beyond them first."""
    LOW: tl.constexpr = lowest_code(CAST)
    HIGH: tl.constexpr = highest_code(CAST)
    ROUNDING: tl.constexpr = rounding_of(CAST)
    scaled = value * fraction_factor(CAST)
    scaled = tl.where(scaled == scaled, scaled, 0.0)
    scaled = tl.minimum(tl.maximum(scaled, LOW - 1.0), HIGH + 1.0)
    below = tl.floor(scaled)
    below = tl.where(below > scaled, below - 1.0, below)  # the GPU's floor takes a subnormal number for 0
    middle = below + 0.5
    code = below.to(tl.int32)
    if ROUNDING == "floor":
        up = scaled != scaled
    elif ROUNDING == "toward_zero":
        up = (scaled < 0) & (below < scaled)
    elif ROUNDING == "half_up":
        up = scaled >= middle
    elif ROUNDING == "half_down":
        up = scaled > middle
    elif ROUNDING == "half_zero":
        up = (scaled > middle) | ((scaled == middle) & (scaled < 0))
    elif ROUNDING == "half_away":
        up = (scaled > middle) | ((scaled == middle) & (scaled > 0))
    else:
        up = (scaled > middle) | ((scaled == middle) & ((code & 1) != 0))
    code += up.to(tl.int32)
    if overflow_of(CAST) == "saturate_zero":
        return tl.where((code < LOW) | (code > HIGH), 0, code)
    return tl.minimum(tl.maximum(code, LOW), HIGH)


@triton.jit
def encode_float(value, CAST: tl.constexpr):
    """Sign, exponent and mantissa, nearest even, saturating: a power of two whose last place is the step rounds."""
    MANTISSA: tl.constexpr = mantissa_of(CAST)
    SHIFT: tl.constexpr = 23 - MANTISSA
    SMALLEST: tl.constexpr = 128 - bias_of(CAST)  # float32's exponent field of the smallest normal
    magnitude = tl.minimum(tl.abs(value), largest_of(CAST))
    power = tl.maximum(magnitude.to(tl.int32, bitcast=True) & 0x7F800000, SMALLEST << 23)
    magic = power + (SHIFT << 23)
    units = (magnitude + magic.to(tl.float32, bitcast=True)).to(tl.int32, bitcast=True) - magic
    code = (power >> SHIFT) - (SMALLEST << MANTISSA) + units
    sign = (value.to(tl.int32, bitcast=True) >> 31) & 1
    return tl.where(value == value, code | (sign << sign_place(CAST)), nan_code(CAST))
