// Weights of the block formats as fp16 operands of the tensor cores, and x beside them.
//
// Every element of these formats is exact in fp16, E2M1 times NVFP4's scale too. x is scaled to fp16, once a row and slice of
// 256 k, by the power of two below the slice's largest magnitude: elements within 2^-17 of that are exact (E2M1: 2^-24), the rest
// to 2^-25 of it (2^-32). Infinities in x give NaN. A block's dot product starts at zero and is scaled and added in float32;
// NVFP4's sums need no scaling.
#pragma once
#include "decode_common.h"

namespace {

constexpr int kSlice = 256;  // k that share a scale of x

template <int FORMAT>
struct Layout {
    static constexpr bool kNibbles = FORMAT >= kMxfp4;
    static constexpr int kChunk = kNibbles ? 256 : 128;                          // k in 128 bytes of a row: whole lines
    static constexpr int kParts = kSlice / kChunk;                               // chunks of a slice
    static constexpr int kBlocks = kChunk / 32;                                  // pieces of 32 elements
    static constexpr int kScaleBytes = FORMAT == kNvfp4 ? 16 : kBlocks;          // of a row in a chunk
    static constexpr int kDecoded = 16 * (FORMAT == kNvfp4 ? 32 : kBlocks * 4);  // bytes of 16 rows' decoded scales
    // Decoded elements are 2^-kLift of their values; x is scaled to begin at 2^kLift.
    static constexpr int kLift = FORMAT == kMxfp4 ? 14 : FORMAT == kNvfp4 ? 7 : 0;
};

__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ uint32_t mul2(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}
__device__ __forceinline__ uint32_t fma2(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// Bits of `a` where the mask has ones, else of `b`: one instruction, which the compiler would take apart.
__device__ __forceinline__ uint32_t select_bits(uint32_t a, uint32_t b, uint32_t mask) {
    uint32_t d;
    asm("lop3.b32 %0, %1, %2, %3, 0xE4;" : "=r"(d) : "r"(a), "r"(b), "r"(mask));
    return d;
}

// 8 nibbles of E2M1 to fp16 x 2^-14: the code's fields, moved, among bits that are then cleared. Elements 0 4, 2 6, 1 5, 3 7.
__device__ __forceinline__ void decode_e2m1(uint32_t word, uint32_t (&p)[4]) {
    constexpr uint32_t kSigns = 0x80808080u, kFields = 0x8E008E00u;
    const uint32_t even = select_bits(word << 4, word << 1, kSigns), odd = select_bits(word, word >> 3, kSigns);
    p[0] = even << 8 & kFields;
    p[1] = even & kFields;
    p[2] = odd << 8 & kFields;
    p[3] = odd & kFields;
}

// 4 codes of MXINT8 to fp16: 1024 + 128 + code in the low bits, then times 2^-6 less 18.
__device__ __forceinline__ void decode_int8(uint32_t word, uint32_t& p0, uint32_t& p1) {
    const uint32_t biased = word ^ 0x80808080u;
    p0 = fma2(permute(biased, 0x64646464u, 0x4140), 0x24002400u, 0xCC80CC80u);
    p1 = fma2(permute(biased, 0x64646464u, 0x4342), 0x24002400u, 0xCC80CC80u);
}

// Half of a row's scales in a chunk (`raw`, the row's) to float32; NVFP4: to fp16 x 2^7, first those of even halves of 32. Two
// lanes decode a row.
template <int FORMAT>
__device__ __forceinline__ void decode_scales(const uint8_t* raw, uint8_t* decoded, int lane) {
    const int half = lane & 1;
    if constexpr (FORMAT == kNvfp4) {
        const uint4 v = *(const uint4*)raw;
        const uint32_t selector = half ? 0x7531u : 0x6420u;
        const uint32_t first = permute(v.x, v.y, selector), second = permute(v.z, v.w, selector);
        uint4 out;
        out.x = mul2(e4m3_halves(first), 0x58005800u);
        out.y = mul2(e4m3_halves(first >> 16), 0x58005800u);
        out.z = mul2(e4m3_halves(second), 0x58005800u);
        out.w = mul2(e4m3_halves(second >> 16), 0x58005800u);
        *(uint4*)(decoded + lane * 16) = out;
    } else if constexpr (FORMAT == kMxfp4) {
        const uint32_t v = *(const uint32_t*)(raw + half * 4);
        *(float4*)(decoded + lane * 16) =
            make_float4(power(v & 0xFF), power(v >> 8 & 0xFF), power(v >> 16 & 0xFF), power(v >> 24));
    } else {
        const uint32_t v = *(const uint16_t*)(raw + half * 2);
        *(float2*)(decoded + lane * 8) = make_float2(power(v & 0xFF), power(v >> 8));
    }
}

// What x is multiplied by, and the unit of the results, for a slice whose largest magnitude has these bits.
struct Scaling {
    float factor, unit;
};
template <int FORMAT>
__device__ __forceinline__ Scaling scaling(uint32_t largest) {
    const uint32_t exponent = min(max(largest >> 7, Layout<FORMAT>::kLift + 1u), 253u);
    return {__uint_as_float((254u + Layout<FORMAT>::kLift - exponent) << 23),
            __uint_as_float(largest >> 7 == 255u ? 0x7FC00000u : exponent << 23)};
}

// 8 elements of x to fp16, in the order of the decoded weights.
template <bool NIBBLES>
__device__ __forceinline__ void convert(const uint4& v, float factor, uint32_t (&b)[4]) {
    float f[8];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        f[2 * j] = __uint_as_float((&v.x)[j] << 16) * factor;
        f[2 * j + 1] = __uint_as_float((&v.x)[j] & 0xFFFF0000u) * factor;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const int one = NIBBLES ? (j & 1) * 2 + (j >> 1) : 2 * j, other = NIBBLES ? one + 4 : one + 1;
        const __half2 pair = __floats2half2_rn(f[one], f[other]);
        b[j] = *(const uint32_t*)&pair;
    }
}

}  // namespace
