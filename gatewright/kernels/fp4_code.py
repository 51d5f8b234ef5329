# pyright: basic
"""E2M1 elements in packed arithmetic: eight in a word, two bfloat16 to an instruction.

The portable functions of ``device_code`` take some 15 instructions an element, more than the memory leaves
time for at half a byte each; these take 3 (decode) and 8 (encode). PTX for sm_90; not for the interpreter.
"""

import triton
import triton.language as tl

ENCODE_PAIR = """
    and.b32 v, $SOURCE, 0x7FFF7FFF;
    fma.rn.bf16x2 v, v, $5, zero;
    fma.rn.bf16x2 a, v, two, n0;
    fma.rn.bf16x2 b, v, one, n1;
    fma.rn.bf16x2 c, v, half, n2;
    min.bf16x2 a, a, b;
    min.bf16x2 c, c, top;
    min.bf16x2 a, a, c;
    and.b32 a, a, 0x00070007;
    shr.u32 s, $SOURCE, 12;
    and.b32 s, s, 0x00080008;
    or.b32 RESULT, a, s;
"""
ENCODE_PAIRS = "".join(
    ENCODE_PAIR.replace("SOURCE", str(index + 1)).replace("RESULT", f"q{index}") for index in range(4)
)
ENCODE_WORDS = tl.constexpr(
    """
        {
        .reg .b32 v, a, b, c, s, two, one, half, n2, n1, n0, top, zero, q0, q1, q2, q3;
        mov.b32 two, 0x40004000;
        mov.b32 one, 0x3F803F80;
        mov.b32 half, 0x3F003F00;
        mov.b32 n0, 0x43404340;
        mov.b32 n1, 0x43424342;
        mov.b32 n2, 0x43444344;
        mov.b32 top, 0x43474347;
        mov.b32 zero, 0x80008000;
        """
    + ENCODE_PAIRS
    + """
        mad.lo.u32 q0, q1, 256, q0;
        mad.lo.u32 q2, q3, 256, q2;
        prmt.b32 a, q0, q2, 0x5410;
        prmt.b32 b, q0, q2, 0x7632;
        mad.lo.u32 $0, b, 16, a;
        }
        """
)


@triton.jit
def decode_words(word, scale):
    """Four tensors of int32, each two bfloat16 in order: the 8 elements of ``word`` times ``scale``.

    ``scale`` is float32, exact in bfloat16. A nibble's exponent and fraction, moved to bfloat16's, are the
    value x 2^-126, subnormals included; the two products that follow are exact, or rounded once.
    """
    bits = scale.to(tl.int32, bitcast=True)
    pair = ((bits >> 16) & 0xFFFF) | (bits & -65536)
    return tl.inline_asm_elementwise(
        """
        {
        .reg .b32 s, m, p0, p1, p2, p3, one, zero;
        mov.b32 one, 0x7E807E80;
        mov.b32 zero, 0x80008000;
        shl.b32 s, $4, 12;
        shl.b32 m, $4, 6;
        and.b32 s, s, 0x80008000;
        and.b32 m, m, 0x01C001C0;
        or.b32 p0, s, m;
        shl.b32 s, $4, 8;
        shl.b32 m, $4, 2;
        and.b32 s, s, 0x80008000;
        and.b32 m, m, 0x01C001C0;
        or.b32 p1, s, m;
        shl.b32 s, $4, 4;
        shr.u32 m, $4, 2;
        and.b32 s, s, 0x80008000;
        and.b32 m, m, 0x01C001C0;
        or.b32 p2, s, m;
        shr.u32 m, $4, 6;
        and.b32 s, $4, 0x80008000;
        and.b32 m, m, 0x01C001C0;
        or.b32 p3, s, m;
        prmt.b32 s, p0, p1, 0x5410;
        prmt.b32 m, p2, p3, 0x5410;
        prmt.b32 p0, p0, p1, 0x7632;
        prmt.b32 p1, p2, p3, 0x7632;
        fma.rn.bf16x2 s, s, one, zero;
        fma.rn.bf16x2 m, m, one, zero;
        fma.rn.bf16x2 p0, p0, one, zero;
        fma.rn.bf16x2 p1, p1, one, zero;
        fma.rn.bf16x2 $0, s, $5, zero;
        fma.rn.bf16x2 $1, m, $5, zero;
        fma.rn.bf16x2 $2, p0, $5, zero;
        fma.rn.bf16x2 $3, p1, $5, zero;
        }
        """,
        "=&r,=&r,=&r,=&r,r,r",
        [word, pair],
        dtype=(tl.int32, tl.int32, tl.int32, tl.int32),
        is_pure=True,
        pack=1,
    )


@triton.jit
def larger_pair(left, right):
    """The larger halves of two words of two non-negative bfloat16; a NaN wins."""
    return tl.inline_asm_elementwise(
        "max.NaN.bf16x2 $0, $1, $2;", "=r,r,r", [left, right], dtype=tl.int32, is_pure=True, pack=1
    )


@triton.jit
def encode_words(first, second, third, fourth, inverse):
    """A word of 8 codes from four words of two bfloat16 each, times the power of two ``inverse`` (float32).

    On [0, 8) the code is the least of 2v, v + 2, v / 2 + 4, each rounded to nearest even by an addend of
    192, whose last place in bfloat16 is 1, and at most 7.
    """
    bits = inverse.to(tl.int32, bitcast=True)
    pair = ((bits >> 16) & 0xFFFF) | (bits & -65536)
    return tl.inline_asm_elementwise(
        ENCODE_WORDS,  # pyright: ignore[reportArgumentType] - Triton unwraps a constant
        "=r,r,r,r,r,r",
        [first, second, third, fourth, pair],
        dtype=tl.int32,
        is_pure=True,
        pack=1,
    )
