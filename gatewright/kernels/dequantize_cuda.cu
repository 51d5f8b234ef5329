// MXINT8 to bfloat16 for Ampere and newer GPUs.
//
// A thread converts kSteps groups of 8 codes: all its 8-byte loads are issued before the first use, and each
// result leaves as one 16-byte store, so that every access of a warp is whole, consecutive lines. Codes and
// scales are read once, and past the L1 cache.
#include <cstdint>
#include <cuda_runtime.h>

namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ uint32_t multiply(uint32_t left, uint32_t right) {
    uint32_t product;  // of two pairs of bfloat16; adding -0 keeps the sign of a zero
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(left), "r"(right), "r"(0x80008000u));
    return product;
}

// Two signed bytes of `word`, chosen by `selector`, as a pair of bfloat16 in units of 1.
__device__ __forceinline__ uint32_t widen(uint32_t word, uint32_t selector) {
    // 0x43bb is 128 + (b & 127) for the low 7 bits, less 128 or, for a negative byte, 256: both exact.
    uint32_t placed, difference;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(placed) : "r"(word), "r"(0x43434343u), "r"(selector));
    const uint32_t low = placed & 0xFF7FFF7Fu;
    const uint32_t offset = placed & 0xFF80FF80u;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(difference) : "r"(offset), "r"(0xBF80BF80u), "r"(low));
    return difference;
}

// The block scale times 2^-6, twice, as two factors: their product may be below bfloat16's normal range.
__device__ __forceinline__ uint32_t scale_pair(uint32_t code) {
    uint32_t bits = code == 0 ? 0x0040u : code << 7;
    if (code == 255) bits = 0x7FC0u;
    return bits | bits << 16;
}

// STREAM: loads and stores marked as used once.
template <int kSteps, bool STREAM>
__global__ void __launch_bounds__(kThreads) dequantize_mxint8_kernel(
    const uint2* __restrict__ codes, const uint8_t* __restrict__ scales, uint4* __restrict__ out, long long groups) {
    const long long first = (long long)blockIdx.x * (kThreads * kSteps) + threadIdx.x;
    uint2 words[kSteps];
    uint32_t scale[kSteps];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
        const long long group = first + step * kThreads;
        if (group < groups) {
            words[step] = STREAM ? __ldcs(codes + group) : __ldg(codes + group);
            scale[step] = __ldg(scales + (group >> 2));
        }
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
        const long long group = first + step * kThreads;
        if (group >= groups) continue;
        const uint32_t pair = scale_pair(scale[step]);
        const uint32_t sixth = 0x3C803C80u;  // 2^-6
        uint4 result;
        result.x = multiply(multiply(widen(words[step].x, 0x4140), sixth), pair);
        result.y = multiply(multiply(widen(words[step].x, 0x4342), sixth), pair);
        result.z = multiply(multiply(widen(words[step].y, 0x4140), sixth), pair);
        result.w = multiply(multiply(widen(words[step].y, 0x4342), sixth), pair);
        if (STREAM)
            __stcs(out + group, result);
        else
            out[group] = result;
    }
}

template <int kSteps, bool STREAM>
int launch(const void* codes, const void* scales, void* out, long long groups, cudaStream_t stream) {
    const long long grid = (groups + kThreads * kSteps - 1) / (kThreads * kSteps);
    dequantize_mxint8_kernel<kSteps, STREAM><<<(unsigned)grid, kThreads, 0, stream>>>(
        (const uint2*)codes, (const uint8_t*)scales, (uint4*)out, groups);
    return (int)cudaGetLastError();
}

}  // namespace

// `shape`: groups of 8 a thread (1, 2, 4 for 0, 1, 2), plus 3 for streaming accesses. Returns a cudaError_t.
extern "C" int dequantize_mxint8(
    const void* codes, const void* scales, void* out, long long blocks, long long shape, cudaStream_t stream) {
    switch (shape) {
        case 0: return launch<1, false>(codes, scales, out, blocks * 4, stream);
        case 1: return launch<2, false>(codes, scales, out, blocks * 4, stream);
        case 2: return launch<4, false>(codes, scales, out, blocks * 4, stream);
        case 3: return launch<1, true>(codes, scales, out, blocks * 4, stream);
        case 4: return launch<2, true>(codes, scales, out, blocks * 4, stream);
        default: return launch<4, true>(codes, scales, out, blocks * 4, stream);
    }
}
