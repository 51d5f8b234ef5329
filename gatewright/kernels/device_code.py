# pyright: basic
"""Device functions that the kernels share: decoding and encoding of elements and scales, rounding.

Every function works on Triton tensors of float32 values or int32 codes. ``FORMAT`` is a block format's
name; its parameters are read from the format table while the kernel is compiled. ``NATIVE`` allows the
GPU's conversions (sm_89 and newer); without it all is integer arithmetic, as the interpreter needs.
"""

import triton
import triton.language as tl

from gatewright.kernels.formats import FORMATS


@triton.constexpr_function
def exponent_bits(name):
    return FORMATS[name].element.exponent


@triton.constexpr_function
def mantissa_bits(name):
    return FORMATS[name].element.mantissa


@triton.constexpr_function
def exponent_bias(name):
    return FORMATS[name].element.bias


@triton.constexpr_function
def largest_exponent(name):
    return FORMATS[name].element.emax


@triton.constexpr_function
def largest_code(name):
    return FORMATS[name].element.largest_code


@triton.constexpr_function
def largest_value(name):
    return FORMATS[name].element.maximum


@triton.constexpr_function
def code_bits(name):
    return FORMATS[name].bits


@triton.constexpr_function
def special_codes(name):
    return FORMATS[name].element.special


@triton.constexpr_function
def block_size(name):
    return FORMATS[name].size


@triton.constexpr_function
def scale_format(name):
    return FORMATS[name].scale


@triton.jit
def decode_element(code, FORMAT: tl.constexpr, NATIVE: tl.constexpr):
    """The float32 value of element codes (int8 for MXINT8, else any integer type, high bits zero)."""
    BITS: tl.constexpr = code_bits(FORMAT)
    MANTISSA: tl.constexpr = mantissa_bits(FORMAT)
    if exponent_bits(FORMAT) == 0:
        return code.to(tl.float32) * 0.015625
    if NATIVE and FORMAT == "mxfp8_e4m3":
        return code.to(tl.uint8).to(tl.float8e4nv, bitcast=True).to(tl.float32)
    if FORMAT == "mxfp8_e5m2":  # the high byte of a half
        return (code.to(tl.int16) << 8).to(tl.float16, bitcast=True).to(tl.float32)
    wide = code.to(tl.int32)
    magnitude = (wide & ((1 << (BITS - 1)) - 1)) << (23 - MANTISSA)
    sign = (wide >> (BITS - 1)) << 31
    # The code's exponent and fraction sit at float32's, subnormals included: only the bias differs.
    value = (magnitude | sign).to(tl.float32, bitcast=True)
    value = value * tl.cast((254 - exponent_bias(FORMAT)) << 23, tl.int32).to(tl.float32, bitcast=True)
    if special_codes(FORMAT) == "nan":
        value = tl.where((wide & 0x7F) == 0x7F, float("nan"), value)
    return value


@triton.jit
def decode_units(code, FORMAT: tl.constexpr, NATIVE: tl.constexpr):
    """Element codes as float32 in the unit that ``unit_scale`` puts into the scale: MXINT8 stays an integer."""
    if exponent_bits(FORMAT) == 0:
        return code.to(tl.float32)
    return decode_element(code, FORMAT, NATIVE)


@triton.jit
def unit_scale(code, FORMAT: tl.constexpr, NATIVE: tl.constexpr):
    """The float32 scale of ``decode_units`` (exact: 2^-133 is a float32)."""
    if exponent_bits(FORMAT) == 0:
        return decode_scale(code, FORMAT, NATIVE) * 0.015625
    return decode_scale(code, FORMAT, NATIVE)


@triton.jit
def exponential2(value, NATIVE: tl.constexpr):
    """2^value; natively one instruction, whose results below 2^-126 are zero."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [value], dtype=tl.float32, is_pure=True, pack=1
        )
    return tl.exp2(value)


@triton.jit
def reciprocal(value, NATIVE: tl.constexpr):
    """1 / value of float32; natively one instruction, within one unit in the last place, subnormal results zero."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [value], dtype=tl.float32, is_pure=True, pack=1
        )
    return 1.0 / value


@triton.jit
def decode_scale(code, FORMAT: tl.constexpr, NATIVE: tl.constexpr):
    """The float32 value of scale codes."""
    if scale_format(FORMAT) == "e4m3":
        return decode_element(code, "mxfp8_e4m3", NATIVE)
    wide = code.to(tl.int32)
    bits = tl.where(wide == 0, 0x00400000, wide << 23)  # 2^-127 is a subnormal
    return tl.where(wide == 255, 0x7FC00000, bits).to(tl.float32, bitcast=True)


@triton.jit
def round_to(value, DTYPE: tl.constexpr, NATIVE: tl.constexpr):
    """float32 values as ``DTYPE``, nearest even; without NATIVE a bfloat16 is made of integers."""
    if tl.bfloat16 == DTYPE and not NATIVE:
        bits = value.to(tl.int32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        rounded = tl.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7FC0, rounded)
        return rounded.to(tl.int16).to(tl.bfloat16, bitcast=True)
    return value.to(DTYPE)


@triton.jit
def to_float32(value, NATIVE: tl.constexpr):
    """Any float as float32; the interpreter's own widening of bfloat16 is bypassed."""
    if value.dtype == tl.bfloat16 and not NATIVE:
        return (value.to(tl.int16, bitcast=True).to(tl.int32) << 16).to(tl.float32, bitcast=True)
    return value.to(tl.float32)


@triton.jit
def encode_scale(amax_bits, FORMAT: tl.constexpr, NATIVE: tl.constexpr):
    """Scale codes (int32) for the float32 bits of the blocks' largest magnitudes."""
    if scale_format(FORMAT) == "e4m3":
        quotient = tl.div_rn(amax_bits.to(tl.float32, bitcast=True), 6.0)
        quotient = tl.minimum(tl.maximum(quotient, 0.015625), 448.0)
        code = encode_element(quotient, "mxfp8_e4m3", NATIVE)
        return tl.where(amax_bits >= 0x7F800000, 0x7F, code)
    code = tl.maximum((amax_bits >> 23) - largest_exponent(FORMAT), 0)
    return tl.where(amax_bits >= 0x7F800000, 255, code)


@triton.jit
def apply_inverse_scale(value, scale, FORMAT: tl.constexpr, NATIVE: tl.constexpr):
    """Values over their block's scale. E8M0: an exact product; NVFP4: a correctly rounded quotient."""
    if scale_format(FORMAT) == "e4m3":
        divisor = decode_scale(scale, FORMAT, NATIVE)
        return tl.div_rn(value, tl.broadcast_to(divisor, value.shape))
    return value * decode_scale(254 - tl.minimum(scale, 254), FORMAT, NATIVE)


@triton.jit
def encode_element(value, FORMAT: tl.constexpr, NATIVE: tl.constexpr, WIDE: tl.constexpr = True):
    """Element codes (int32, high bits zero) of float32 values: nearest even, saturating.

    ``WIDE`` False promises values of at most 11 significant bits (of bfloat16 or float16 origin).
    """
    BITS: tl.constexpr = code_bits(FORMAT)
    SHIFT: tl.constexpr = 23 - mantissa_bits(FORMAT)
    BIAS: tl.constexpr = exponent_bias(FORMAT)
    if exponent_bits(FORMAT) == 0:
        scaled = tl.minimum(tl.maximum(value * 64.0, -127.0), 127.0)
        # 1.5 x 2^23 leaves the integer, nearest even, in the low bits.
        return (scaled + 12582912.0).to(tl.int32, bitcast=True) & 0xFF
    if NATIVE and FORMAT == "mxfp8_e4m3":
        return value.to(tl.float8e4nv).to(tl.uint8, bitcast=True).to(tl.int32)
    if NATIVE and FORMAT == "mxfp8_e5m2":
        return value.to(tl.float8e5).to(tl.uint8, bitcast=True).to(tl.int32)
    bits = value.to(tl.int32, bitcast=True)
    sign = (bits >> (32 - BITS)) & (1 << (BITS - 1))
    if WIDE:
        # A power of two whose last place is the value's step rounds the sum to that step.
        magnitude = tl.minimum(tl.abs(value), largest_value(FORMAT))
        power = tl.maximum(magnitude.to(tl.int32, bitcast=True) & 0x7F800000, (128 - BIAS) << 23)
        magic = power + (SHIFT << 23)
        total = magnitude + magic.to(tl.float32, bitcast=True)
        units = total.to(tl.int32, bitcast=True) - magic
        return ((power >> SHIFT) - ((128 - BIAS) << (23 - SHIFT)) + units) | sign
    # Scaled so that the format's subnormals are float32's, the code is the bits, rounded.
    small = tl.cast(BIAS << 23, tl.int32).to(tl.float32, bitcast=True)
    shifted = (tl.abs(value) * small).to(tl.int32, bitcast=True)
    code = (shifted + ((1 << (SHIFT - 1)) - 1) + ((shifted >> SHIFT) & 1)) >> SHIFT
    return tl.minimum(code, largest_code(FORMAT)) | sign
