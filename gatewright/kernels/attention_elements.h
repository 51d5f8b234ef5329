// Elements of a key-value cache as operands of the tensor cores, and the query that its keys meet.
//
// A warp's 16 tokens are the rows of the left operand. The order of k inside a block of 32 is free: a lane's 8 consecutive
// elements are whatever k the fragment layout gives it. Integer keys meet two 8-bit digits of the query (see
// group_code.h), a unit for every block of 32. Float keys are exact in fp16; the query is scaled to fp16, all 128 elements
// with one power of two: elements within 2^-25 of the largest are exact, the rest to 2^-33 of it. Infinities in the query give NaN.
//
// SETS x 2 query heads share a key-value head. Lane 4 row + part gets the scores of tokens `row` and `row + 8` for heads
// part / 2 + 2 set: each head has four of a set's eight columns, because its weights take another scale in each block.
#pragma once
#include "half_code.h"

namespace {

enum CacheFormat { kInteger = 0, kE4m3 = 1, kE5m2 = 2 };

constexpr int kDepth = 128;

// Block `block` of four scale codes: 2^(code - 126), short of it by 2^-24 of it (2^-23 for code 0), NaN for 255: every mantissa
// bit set makes the subnormal end and NaN come by themselves.
__device__ __forceinline__ float twice_power(uint32_t codes, int block) {
    const uint32_t field = block == 3 ? codes >> 1 : codes << (23 - 8 * block);
    uint32_t bits;  // (a & b) | c in one instruction
    asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(bits) : "r"(field), "r"(0x7F800000u), "r"(0x007FFFFFu));
    return __uint_as_float(bits);
}

// Two codes, in the low half, as fp16: exact, NaN and infinities included.
template <int FORMAT>
__device__ __forceinline__ uint32_t float_halves(uint32_t codes) {
    return FORMAT == kE4m3 ? e4m3_halves(codes) : permute(codes, 0, 0x1404);
}

// Four codes of values to two pairs of fp16.
template <int FORMAT>
__device__ __forceinline__ void decode_pairs(uint32_t codes, uint32_t& p0, uint32_t& p1) {
    if constexpr (FORMAT == kInteger) decode_int8(codes, p0, p1);
    else p0 = float_halves<FORMAT>(codes), p1 = float_halves<FORMAT>(codes >> 16);
}

// 8 bytes of shared memory, in this place among the copies.
__device__ __forceinline__ uint2 load_shared(uint32_t address) {
    uint2 v;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address) : "memory");
    return v;
}

// Where this lane's elements of block 0 of a tile's token `row` lie; another block's: combined with 32 times its number.
__device__ __forceinline__ uint32_t place_of_keys(int lane) {
    const int row = lane >> 2, part = lane & 3;
    return row * kDepth + ((part >> 1) ^ row) * 16 + (part & 1) * 8;
}

// A query head's 8 elements of each block; zeros for a head that does not exist.
__device__ __forceinline__ void load_query(const __nv_bfloat16* query, int member, int group, uint4 (&raw)[4]) {
    const int part = threadIdx.x & 3;
#pragma unroll
    for (int block = 0; block < 4; ++block)
        raw[block] = member < group ? *(const uint4*)(query + member * kDepth + block * 32 + part * 8) : make_uint4(0, 0, 0, 0);
}

__device__ __forceinline__ uint32_t largest_of_parts(uint32_t largest) {
    largest = max(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, 1));
    return max(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, 2));
}

// Float keys: column n is head n / 4, odd columns that of the second set.
template <int FORMAT, int SETS>
struct Query {
    uint32_t q[4][4];
    float unit[SETS];

    // `query`: the key-value head's `group` rows; `scale`: of the scores.
    __device__ __forceinline__ void load(const __nv_bfloat16* query, int group, float scale) {
        const int lane = threadIdx.x & 31, column = lane >> 2;
        uint4 raw[4];
        load_query(query, (column >> 2) + (SETS == 2 ? (column & 1) * 2 : 0), group, raw);
        uint32_t largest = 0;
#pragma unroll
        for (int block = 0; block < 4; ++block) largest = max(largest, largest_magnitude(raw[block]));
        largest = largest_of_parts(largest);
        const uint32_t exponent = min(max(largest >> 7, 9u), 253u);
        const float factor = __uint_as_float((262u - exponent) << 23);
        const float own = __uint_as_float(largest >> 7 == 255u ? 0x7FC00000u : (exponent - 8u) << 23);
#pragma unroll
        for (int block = 0; block < 4; ++block) convert<false>(raw[block], factor, q[block]);
#pragma unroll
        for (int set = 0; set < SETS; ++set)
            unit[set] = __shfl_sync(0xFFFFFFFFu, own, (lane & 2) * 8 + set * 4) * (scale * 0.5f);
    }

    // Scores of the tokens whose keys lie at `stage` (place_of_keys included); `powers`: the scale codes of tokens row and row + 8.
    __device__ __forceinline__ void score(uint32_t stage, const uint32_t (&powers)[2], float (&result)[SETS][2]) const {
#pragma unroll
        for (int set = 0; set < SETS; ++set) result[set][0] = result[set][1] = 0.0f;
#pragma unroll
        for (int block = 0; block < 4; ++block) {
            const uint2 top = load_shared(stage ^ block * 32), bottom = load_shared((stage ^ block * 32) + 8 * kDepth);
            uint32_t a[2][4];
            decode_pairs<FORMAT>(top.x, a[0][0], a[0][2]);
            decode_pairs<FORMAT>(bottom.x, a[0][1], a[0][3]);
            decode_pairs<FORMAT>(top.y, a[1][0], a[1][2]);
            decode_pairs<FORMAT>(bottom.y, a[1][1], a[1][3]);
            float c[4] = {};
            mma(c, a[0], q[block][0], q[block][1]);
            mma(c, a[1], q[block][2], q[block][3]);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float power = twice_power(powers[half], block);
#pragma unroll
                for (int set = 0; set < SETS; ++set) result[set][half] = fmaf(c[half * 2 + set], power, result[set][half]);
            }
        }
#pragma unroll
        for (int set = 0; set < SETS; ++set) result[set][0] *= unit[set], result[set][1] *= unit[set];
    }
};

// Every sum starts at the bits of 1.5 x 2^23, so that the result is a float32 too.
__device__ __forceinline__ void mma_int8(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                         uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(0x4B400000));
}

// Integer keys: columns 2 i and 2 i + 1 are the high and low digits of head i / 2.
template <int SETS>
struct Query<kInteger, SETS> {
    uint32_t q[SETS][4][2] = {};  // in units of 2^-13 of the power of two below the block's largest
    float unit[SETS][4];

    __device__ __forceinline__ void load(const __nv_bfloat16* query, int group, float scale) {
        const int lane = threadIdx.x & 31, column = lane >> 2;
#pragma unroll
        for (int set = 0; set < SETS; ++set) {
            uint4 raw[4];
            load_query(query, (column >> 2) + set * 2, group, raw);
#pragma unroll
            for (int block = 0; block < 4; ++block) {
                const uint32_t largest = largest_of_parts(largest_magnitude(raw[block]));
                const uint32_t exponent = max(largest >> 7, 14u);
                const float factor = __uint_as_float((267u - min(exponent, 254u)) << 23);
#pragma unroll
                for (int b = 0; b < 8; ++b) {
                    const uint32_t word = (&raw[block].x)[b >> 1];
                    const int value = __float2int_rn(__uint_as_float(b & 1 ? word & 0xFFFF0000u : word << 16) * factor);
                    const int digit = column & 1 ? value : (value + 128) >> 8;
                    q[set][block][b >> 2] |= (uint32_t)(digit & 0xFF) << (8 * (b & 3));
                }
                const float own = __uint_as_float(exponent == 255 ? 0x7FC00000u : (exponent - 13u) << 23);
                unit[set][block] = __shfl_sync(0xFFFFFFFFu, own, (lane & 2) * 8) * (scale * 0x1p-7f);  // elements: 2^-6
            }
        }
    }

    __device__ __forceinline__ void score(uint32_t stage, const uint32_t (&powers)[2], float (&result)[SETS][2]) const {
#pragma unroll
        for (int set = 0; set < SETS; ++set) result[set][0] = result[set][1] = 0.0f;
#pragma unroll
        for (int block = 0; block < 4; ++block) {
            const uint2 top = load_shared(stage ^ block * 32), bottom = load_shared((stage ^ block * 32) + 8 * kDepth);
#pragma unroll
            for (int set = 0; set < SETS; ++set) {
                int c[4];
                mma_int8(c, top.x, bottom.x, top.y, bottom.y, q[set][block][0], q[set][block][1]);
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const float high = __int_as_float(c[half * 2]) - 12582912.0f;
                    const float low = __int_as_float(c[half * 2 + 1]) - 12582912.0f;
                    const float factor = twice_power(powers[half], block) * unit[set][block];
                    result[set][half] = fmaf(fmaf(high, 256.0f, low), factor, result[set][half]);
                }
            }
        }
    }
};

}  // namespace
