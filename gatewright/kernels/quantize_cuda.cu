// bfloat16 to NVFP4 and MXFP6 along the last axis, for Hopper GPUs: 10 and 9 instructions an element.
//
// A thread takes 16 neighbours, a block of NVFP4 or half a block of MXFP6: two 16-byte loads that share their sectors.
// Floor: (16 + bits + 8 / block) / 8 bytes an element over the bandwidth.
#include <cstdint>
#include <cuda_runtime.h>

namespace {

constexpr int kThreads = 256;
constexpr int kNvfp4 = 0, kE3m2 = 1, kE2m3 = 2;
constexpr uint32_t kFull = 0xFFFFFFFFu;

__device__ __forceinline__ uint32_t multiply_add(uint32_t left, uint32_t right, uint32_t addend) {
    uint32_t result;  // pairs of bfloat16, rounded once
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(left), "r"(right), "r"(addend));
    return result;
}
__device__ __forceinline__ uint32_t multiply(uint32_t left, uint32_t right) {
    uint32_t result;
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(left), "r"(right));
    return result;
}
__device__ __forceinline__ uint32_t smaller(uint32_t left, uint32_t right) {
    uint32_t result;
    asm("min.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(left), "r"(right));
    return result;
}
// The smaller and the larger magnitude under the signs' product; in the larger one a NaN wins.
__device__ __forceinline__ uint32_t smaller_magnitude(uint32_t left, uint32_t right) {
    uint32_t result;
    asm("min.xorsign.abs.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(left), "r"(right));
    return result;
}
__device__ __forceinline__ uint32_t larger_magnitude(uint32_t left, uint32_t right) {
    uint32_t result;
    asm("max.NaN.xorsign.abs.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(left), "r"(right));
    return result;
}
__device__ __forceinline__ uint32_t select(uint32_t mask, uint32_t set, uint32_t clear) {
    return (set & mask) | (clear & ~mask);
}
__device__ __forceinline__ uint32_t twice(uint32_t half) { return half | half << 16; }
__device__ __forceinline__ uint32_t pair_of(float value) {
    uint32_t result;
    asm("cvt.rn.bf16x2.f32 %0, %1, %1;" : "=r"(result) : "f"(value));
    return result;
}

// float32 bits of the largest magnitude of 16 elements; a NaN's are above an infinity's.
__device__ __forceinline__ uint32_t largest(const uint32_t* pairs) {
    uint32_t most = larger_magnitude(pairs[0], pairs[1]);
#pragma unroll
    for (int i = 2; i < 8; ++i) most = larger_magnitude(most, pairs[i]);
    most &= 0x7FFF7FFFu;
    return max(most << 16, most & 0xFFFF0000u);
}

// A word of 8 codes of E2M1 from four pairs, over a scale whose reciprocal is high + low.
//
// The quotient v is within 2^-16 of itself of x / scale before its one rounding. The middle of two codes times a scale
// is a bfloat16, so any other x is a last place away or more, and v falls on that x's side of the middle, or on the
// middle itself if x does. On [0, 7) the code is the least of 2v, v + 2 and v / 2 + 4, each to nearest even: the
// addend 192 makes 1 the last place.
__device__ __forceinline__ uint32_t encode_e2m1(const uint32_t* pairs, uint32_t high, uint32_t low) {
    uint32_t code[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const uint32_t magnitude = pairs[i] & 0x7FFF7FFFu;
        const uint32_t value = multiply_add(magnitude, high, multiply(magnitude, low));
        const uint32_t low_codes = multiply_add(value, 0x40004000u, 0x43404340u);
        const uint32_t middle_codes = multiply_add(value, 0x3F803F80u, 0x43424342u);
        const uint32_t high_codes = multiply_add(value, 0x3F003F00u, 0x43444344u);
        code[i] = smaller(smaller(low_codes, middle_codes), high_codes);
    }
    // Bytes 0 to 3 of `even` are the codes 0, 2, 4, 6, and of `odd` 1, 3, 5, 7, above the addends' bits.
    const uint32_t left = code[1] * 256 + code[0], right = code[3] * 256 + code[2];
    const uint32_t even = __byte_perm(left, right, 0x5410), odd = __byte_perm(left, right, 0x7632);
    constexpr uint32_t kLeft = 0x43404340u * 257u;
    constexpr uint32_t kEven = (kLeft & 0xFFFFu) * 0x10001u, kOdd = (kLeft >> 16) * 0x10001u;
    const uint32_t codes = odd * 16 + even - (kOdd * 16u + kEven);
    const uint32_t first = __byte_perm(pairs[0], pairs[1], 0x7531), last = __byte_perm(pairs[2], pairs[3], 0x7531);
    const uint32_t even_signs = __byte_perm(first, last, 0x6420), odd_signs = __byte_perm(first, last, 0x7531);
    return select(0x88888888u, select(0x80808080u, odd_signs, even_signs >> 4), codes);
}

// The 64 bits of a block of NVFP4, and its scale.
__device__ __forceinline__ uint2 encode_nvfp4(uint32_t* pairs, uint8_t* scale) {
    const uint32_t most = largest(pairs);
    const float amax = __uint_as_float(most);
    // Middles of two scales are exact after this product, as after a division; no other quotient comes close to one.
    const float quotient = fmaxf(amax * (1.0f / 6.0f), 0.015625f);
    uint16_t code;
    uint32_t halves;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %1;" : "=h"(code) : "f"(quotient));
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(code));
    float divisor, reciprocal;
    asm("{.reg .f16 a, b; mov.b32 {a, b}, %1; cvt.f32.f16 %0, a;}" : "=f"(divisor) : "r"(halves));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(divisor));
    const uint32_t high = pair_of(reciprocal);
    const uint32_t low = pair_of(reciprocal - __uint_as_float(high & 0xFFFF0000u));
    *scale = most >= 0x7F800000u ? 0x7F : (uint8_t)code;
    if (amax > 2688.0f) {  // 6 x 448, the largest scale
#pragma unroll
        for (int i = 0; i < 8; ++i) pairs[i] = smaller_magnitude(pairs[i], 0x45284528u);
    }
    return make_uint2(encode_e2m1(pairs, high, low), encode_e2m1(pairs + 4, high, low));
}

// Two values as bytes of E5M2 or E4M3.
template <int kFormat>
__device__ __forceinline__ uint32_t encode_bytes(float low, float high) {
    uint16_t bytes;
    if (kFormat == kE3m2)
        asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(bytes) : "f"(high), "f"(low));
    else
        asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(bytes) : "f"(high), "f"(low));
    return bytes;
}

// Four codes of MXFP6, 24 bits. E5M2 has E3M2's fraction and E4M3 E2M3's: once their smallest normal numbers are one,
// so are their codes, subnormals included, but for the sign's place.
template <int kFormat>
__device__ __forceinline__ uint32_t encode_four(uint32_t first, uint32_t second) {
    const uint32_t low = encode_bytes<kFormat>(__uint_as_float(first << 16), __uint_as_float(first & 0xFFFF0000u));
    const uint32_t high = encode_bytes<kFormat>(__uint_as_float(second << 16), __uint_as_float(second & 0xFFFF0000u));
    const uint32_t bytes = low | high << 16;
    const uint32_t codes = (bytes & 0x1F1F1F1Fu) | (bytes >> 2 & 0x20202020u);
    return __dp4a(codes, 0x40010000u, 0u) * 4096 + __dp4a(codes, 0x00004001u, 0u);
}

// The 96 bits of half a block of MXFP6; both its lanes get the block's scale.
template <int kFormat>
__device__ __forceinline__ uint3 encode_mxfp6(uint32_t* pairs, uint8_t* scale) {
    constexpr int kEmax = kFormat == kE3m2 ? 4 : 2;
    constexpr int kLower = kFormat == kE3m2 ? 12 : 6;  // to E5M2's smallest normal number, 2^-14, or E4M3's, 2^-6
    constexpr uint32_t kLimit = kFormat == kE3m2 ? 0x3BE03BE0u : 0x3DF03DF0u;  // 28 x 2^-12 or 7.5 x 2^-6
    uint32_t most = largest(pairs);
    most = max(most, __shfl_xor_sync(kFull, most, 1));
    int code = most >= 0x7F800000u ? 255 : max((int)(most >> 23) - kEmax, 0);
    *scale = (uint8_t)code;
    if (code > 240) {  // the factor would be subnormal
#pragma unroll
        for (int i = 0; i < 8; ++i) pairs[i] = multiply(pairs[i], 0x37803780u);
        code -= 16;
    }
    const uint32_t factor = twice((uint32_t)(254 - kLower - code) << 7);
#pragma unroll
    for (int i = 0; i < 8; ++i) pairs[i] = smaller_magnitude(multiply(pairs[i], factor), kLimit);
    uint32_t four[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) four[i] = encode_four<kFormat>(pairs[i * 2], pairs[i * 2 + 1]);
    return make_uint3(__byte_perm(four[0], four[1], 0x4210), __byte_perm(four[1], four[2], 0x5421),
                      __byte_perm(four[2], four[3], 0x6542));
}

__device__ __forceinline__ void load_group(const uint4* values, bool inside, uint32_t* pairs) {
    uint4 halves[2] = {};
    if (inside) halves[0] = __ldg(values), halves[1] = __ldg(values + 1);
#pragma unroll
    for (int i = 0; i < 8; ++i) pairs[i] = (&halves[i / 4].x)[i % 4];
}

// Groups of 16 elements, kSteps to a thread; a warp's are neighbours in each step.
template <int kFormat, int kSteps>
__global__ void __launch_bounds__(kThreads) quantize_kernel(
    const uint4* __restrict__ values, void* __restrict__ codes, uint8_t* __restrict__ scales, long long groups) {
    __shared__ uint4 staged[kFormat == kNvfp4 ? 1 : kThreads / 32 * 24];
    const long long start = (long long)blockIdx.x * (kThreads * kSteps) + threadIdx.x;
    const int lane = threadIdx.x % 32;
    uint32_t pairs[kSteps][8];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
        const long long group = start + step * kThreads;
        load_group(values + group * 2, group < groups, pairs[step]);
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
        const long long group = start + step * kThreads;
        uint8_t scale;
        if constexpr (kFormat == kNvfp4) {
            const uint2 words = encode_nvfp4(pairs[step], &scale);
            if (group >= groups) return;
            ((uint2*)codes)[group] = words;
            scales[group] = scale;
        } else {
            const uint3 words = encode_mxfp6<kFormat>(pairs[step], &scale);
            if (group < groups && lane % 2 == 0) scales[group / 2] = scale;
            if (group - lane + 32 <= groups) {
                // 12 bytes a lane become 16 bytes for each of 24: whole sectors are written at once.
                uint4* const place = staged + threadIdx.x / 32 * 24;
                uint32_t* const mine = (uint32_t*)place + lane * 3;
                __syncwarp();
                mine[0] = words.x, mine[1] = words.y, mine[2] = words.z;
                __syncwarp();
                if (lane < 24) ((uint4*)codes)[(group - lane) / 4 * 3 + lane] = place[lane];
            } else if (group < groups) {
                uint32_t* const mine = (uint32_t*)codes + group * 3;
                mine[0] = words.x, mine[1] = words.y, mine[2] = words.z;
            }
        }
    }
}

template <int kFormat, int kSteps>
int launch(const void* values, void* codes, void* scales, long long groups, cudaStream_t stream) {
    const long long grid = (groups + kThreads * kSteps - 1) / (kThreads * kSteps);
    quantize_kernel<kFormat, kSteps><<<(unsigned)grid, kThreads, 0, stream>>>(
        (const uint4*)values, codes, (uint8_t*)scales, groups);
    return (int)cudaGetLastError();
}

template <int kFormat>
int launch(const void* values, void* codes, void* scales, long long groups, long long steps, cudaStream_t stream) {
    switch (steps) {
        case 1: return launch<kFormat, 1>(values, codes, scales, groups, stream);
        case 2: return launch<kFormat, 2>(values, codes, scales, groups, stream);
    }
    return (int)cudaErrorInvalidValue;
}

}  // namespace

// `groups` of 16 elements, from 16-byte boundaries; `steps` of them to a thread: 1 or 2. Returns a cudaError_t.
extern "C" int quantize_bfloat16(
    const void* values, void* codes, void* scales, long long format, long long groups, long long steps,
    cudaStream_t stream) {
    switch (format) {
        case kNvfp4: return launch<kNvfp4>(values, codes, scales, groups, steps, stream);
        case kE3m2: return launch<kE3m2>(values, codes, scales, groups, steps, stream);
        case kE2m3: return launch<kE2m3>(values, codes, scales, groups, steps, stream);
    }
    return (int)cudaErrorInvalidValue;
}
