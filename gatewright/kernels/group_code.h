// What products through the int8 tensor cores share: x in two digits of 8 bits, integers of 8 or 4 bits, their groups' scales.
#pragma once
#include <type_traits>

#include "decode_common.h"

namespace {

// d = a . b + c
__device__ __forceinline__ void mma(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const int (&c)[4]) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]));
}

// What x is multiplied by, and the unit of the results, where the largest magnitude has these bits: 2^13 units are the power of
// two below it. Infinities give NaN.
struct Scaling {
    float factor, unit;
};
__device__ __forceinline__ Scaling scaling(uint32_t largest) {
    const uint32_t exponent = max(largest >> 7, 14u);
    return {__uint_as_float((267u - min(exponent, 254u)) << 23),
            exponent == 255u ? __uint_as_float(0x7FC00000u) : __uint_as_float((exponent - 13u) << 23)};
}

// Both digits of four of eight elements of x: the first or the last four, INTERLEAVED the even or the odd ones.
template <bool INTERLEAVED>
__device__ __forceinline__ void split_four(const uint4& raw, int which, float factor, uint32_t& high, uint32_t& low) {
    uint32_t q[4], carried[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int element = INTERLEAVED ? i * 2 + which : which * 4 + i;
        const uint32_t word = (&raw.x)[element >> 1];
        const float value = __uint_as_float(element & 1 ? word & 0xFFFF0000u : word << 16);
        // Added to 1.5 x 2^23, a value is rounded to an integer in the low bits.
        q[i] = __float_as_uint(fmaf(value, factor, 12582912.0f));
        carried[i] = q[i] + 128;
    }
    low = permute(permute(q[0], q[1], 0x0040), permute(q[2], q[3], 0x0040), 0x5410);
    high = permute(permute(carried[0], carried[1], 0x0051), permute(carried[2], carried[3], 0x0051), 0x5410);
}

// Digits of a quarter of a block of x, its four lanes together: `digits` is the block's 32 high bytes, then 32 low
// ones, of INTERLEAVED quarters the even elements first; returns the unit.
template <bool INTERLEAVED>
__device__ __forceinline__ float split_quarter(const uint4& raw, uint8_t* digits, int quarter) {
    uint32_t largest = largest_magnitude(raw);
    const uint32_t lanes = 0xFu << (threadIdx.x & 28);
    largest = max(largest, __shfl_xor_sync(lanes, largest, 1));
    largest = max(largest, __shfl_xor_sync(lanes, largest, 2));
    const Scaling scale = scaling(largest);
    uint2 high, low;
#pragma unroll
    for (int j = 0; j < 2; ++j) split_four<INTERLEAVED>(raw, j, scale.factor, (&high.x)[j], (&low.x)[j]);
    *(uint2*)(digits + quarter * 8) = high;
    *(uint2*)(digits + 32 + quarter * 8) = low;
    return scale.unit;
}

// The sums of the high and of the low digits, in float32.
__device__ __forceinline__ float join(int high, int low) { return (float)(high * 256 + low); }

// Eight nibbles of two's complement, times 16, as two words of int8: the even ones, the odd ones.
__device__ __forceinline__ void split_nibbles(uint32_t word, uint32_t& even, uint32_t& odd) {
    even = word << 4 & 0xF0F0F0F0u;
    odd = word & 0xF0F0F0F0u;
}

// Loads in this place among the copies.
__device__ __forceinline__ uint32_t load_scale(const float* pointer) {
    uint32_t v;
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(pointer) : "memory");
    return v;
}
__device__ __forceinline__ uint32_t load_scale(const void* pointer) {
    uint16_t v;
    asm volatile("ld.global.u16 %0, [%1];" : "=h"(v) : "l"(pointer) : "memory");
    return v;
}

// A scale's bits as float32.
template <typename SCALE>
__device__ __forceinline__ float widen(uint32_t bits) {
    if constexpr (sizeof(SCALE) == 4) return __uint_as_float(bits);
    else if constexpr (std::is_same<SCALE, __half>::value) return __half2float(__ushort_as_half((uint16_t)bits));
    else return __uint_as_float(bits << 16);
}

}  // namespace
