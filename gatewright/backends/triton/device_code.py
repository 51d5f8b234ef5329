"""Functions that printed kernels call."""

import triton
import triton.language as tl


@triton.jit
def bit_length(value, wide: tl.constexpr):
    """Bits of integers that are not negative, by halving; wide where they can exceed 31 bits."""
    length = value * 0
    if wide:
        large = value >= 4294967296
        length += tl.where(large, 32, 0)
        value = tl.where(large, value >> 32, value)
    large = value >= 65536
    length += tl.where(large, 16, 0)
    value = tl.where(large, value >> 16, value)
    large = value >= 256
    length += tl.where(large, 8, 0)
    value = tl.where(large, value >> 8, value)
    large = value >= 16
    length += tl.where(large, 4, 0)
    value = tl.where(large, value >> 4, value)
    large = value >= 4
    length += tl.where(large, 2, 0)
    value = tl.where(large, value >> 2, value)
    # What is left is 0..3, of 0, 1, 2 and 2 bits.
    return length + tl.where(value >= 2, 2, value)


@triton.jit
def bitwise_or(left, right):
    """What a reduction of kind ``or`` combines with."""
    return left | right
