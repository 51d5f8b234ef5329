// Softmax, layer norm and RMS norm of bfloat16 rows, for Hopper GPUs: one pass over memory, a row in registers.
//
// A block takes one row and ends; the hardware hands out the next. (Blocks that stay and queue rows in shared memory
// were slower: 87% of the copy's rate where this reaches 96%.) A lane holds pieces of 8 elements that are neighbours of
// the other lanes' pieces. What counts is that nothing waits: gains and shifts are fetched with the row as far as
// registers allow, lanes meet at the block's one barrier (a barrier whose number is not known while compiling reserves
// all 16 of the block's, and then a multiprocessor takes no more than four blocks), the softmax meets once for maximum
// and sum, rows that fill their lanes need no comparisons, and a launch sets up while its predecessor ends: it asks for
// its rows to be brought to the L2 cache, which is right whoever writes them until then, as nothing is read.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace {

constexpr int kSoftmax = 0, kLayerNorm = 1, kRmsNorm = 2;
constexpr int kBfloat16 = 0, kMxint8 = 1, kMxfp8 = 2;  // what a row becomes
constexpr float kLog2e = 1.4426950408889634f;
constexpr uint32_t kLowest = 0xFF7FFF7Fu;  // finite: a row that is all -inf gives 0 / 0, as PyTorch's does
constexpr uint32_t kFull = 0xFFFFFFFFu;

struct Arguments {
    const __nv_bfloat16* values;  // [rows, width]
    const __nv_bfloat16* weight;  // [width] or null
    const __nv_bfloat16* bias;
    void* out;        // [rows, width] of bfloat16, or of codes
    uint8_t* scales;  // [rows, width / 32] of a block format
    long long rows;
    int width;  // a multiple of 8, of 32 for a block format
    float epsilon;
};

__device__ __forceinline__ float exp2_fast(float value) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
    return result;
}
__device__ __forceinline__ float low_half(uint32_t word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float high_half(uint32_t word) { return __uint_as_float(word & 0xFFFF0000u); }
__device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t result;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}
__device__ __forceinline__ uint32_t largest(uint32_t a, uint32_t b) {
    uint32_t result;
    asm("max.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
    return result;
}
__device__ __forceinline__ uint32_t word(const uint4* pieces, int index) { return (&pieces[index / 4].x)[index % 4]; }

// Sums over a row's lanes; `parts` has a place for each warp, used once.
template <int kLanes>
__device__ __forceinline__ float row_sum(float value, float* parts) {
#pragma unroll
    for (int distance = 16; distance; distance /= 2) value += __shfl_xor_sync(kFull, value, distance);
    if (kLanes > 32) {
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
        __syncthreads();
        value = 0.0f;
#pragma unroll
        for (int warp = 0; warp < kLanes / 32; ++warp) value += parts[warp];
    }
    return value;
}

// The factor of a lane's exponentials: they were taken relative to its own `top`, and add up to `sum`.
template <int kLanes>
__device__ __forceinline__ float softmax_factor(float top, float sum, float* tops, float* sums) {
    float all = top;
#pragma unroll
    for (int distance = 16; distance; distance /= 2) all = fmaxf(all, __shfl_xor_sync(kFull, all, distance));
    sum *= exp2_fast((top - all) * kLog2e);
#pragma unroll
    for (int distance = 16; distance; distance /= 2) sum += __shfl_xor_sync(kFull, sum, distance);
    if (kLanes > 32) {
        constexpr int kWarps = kLanes / 32;
        if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = all, sums[threadIdx.x / 32] = sum;
        __syncthreads();
#pragma unroll
        for (int warp = 0; warp < kWarps; ++warp) all = fmaxf(all, tops[warp]);
        sum = 0.0f;
#pragma unroll
        for (int warp = 0; warp < kWarps; ++warp) sum += sums[warp] * exp2_fast((tops[warp] - all) * kLog2e);
    }
    return __fdividef(exp2_fast((top - all) * kLog2e), sum);
}

// The scale of a block that four neighbouring lanes hold, 8 elements each; every lane of the warp comes here.
template <int kOutput>
__device__ __forceinline__ int block_scale(const float* eight) {
    constexpr int kEmax = kOutput == kMxint8 ? 0 : 8;
    float most = 0.0f;
#pragma unroll
    for (int j = 0; j < 8; ++j) asm("max.NaN.xorsign.abs.f32 %0, %1, %2;" : "=f"(most) : "f"(most), "f"(eight[j]));
    uint32_t bits = __float_as_uint(most) & 0x7FFFFFFFu;
    bits = max(bits, __shfl_xor_sync(kFull, bits, 1));
    bits = max(bits, __shfl_xor_sync(kFull, bits, 2));
    return bits >= 0x7F800000u ? 255 : max((int)(bits >> 23) - kEmax, 0);
}

// The 8 bytes of 8 elements over 2^(scale - 127).
template <int kOutput>
__device__ __forceinline__ uint2 encode_eight(const float* eight, int scale) {
    const float inverse = scale < 254 ? __int_as_float((254 - scale) << 23) : 0x1p-127f;
    uint32_t words[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const float* const four = eight + i * 4;
        if (kOutput == kMxint8) {
            uint32_t units[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                float scaled = four[j] * inverse;
                asm("min.xorsign.abs.f32 %0, %1, %2;" : "=f"(scaled) : "f"(scaled), "f"(127.0f / 64.0f));
                // 1.5 x 2^23 leaves the integer, nearest even, in the low bits.
                units[j] = __float_as_uint(fmaf(scaled, 64.0f, 12582912.0f));
            }
            const uint32_t low = __byte_perm(units[0], units[1], 0x0040);
            words[i] = __byte_perm(low, __byte_perm(units[2], units[3], 0x0040), 0x5410);
        } else {
            uint16_t low, high;
            const float a = four[0] * inverse, b = four[1] * inverse, c = four[2] * inverse, d = four[3] * inverse;
            asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(b), "f"(a));
            asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(d), "f"(c));
            words[i] = low | (uint32_t)high << 16;
        }
    }
    return make_uint2(words[0], words[1]);
}

// kThreads: kLanes, or 32 lanes each for several rows. kEarly: 0 nothing, 1 gains, 2 gains and shifts are fetched with
// the row. kBlocks: at least so many blocks to a multiprocessor. kWhole: rows fill their lanes.
template <int kKind, int kLanes, int kPieces, int kThreads, int kEarly, int kBlocks, bool kWhole, int kOutput>
__global__ void __launch_bounds__(kThreads, kBlocks) rows_kernel(const Arguments args) {
    static_assert(kLanes == kThreads || kLanes == 32, "lanes of several warps meet at the block's barrier");
    constexpr int kElements = kPieces * 8;
    __shared__ float parts[2][kThreads / 32];
    const int lane = threadIdx.x % kLanes;
    const long long row = (long long)blockIdx.x * (kThreads / kLanes) + threadIdx.x / kLanes;
    const int width = kWhole ? kLanes * kElements : args.width;
    const int pieces = width / 8;
    const uint4* const source = (const uint4*)(args.values + row * width);
    constexpr bool kAhead = kLanes > 32;  // short rows are over too soon to gain
    if (kAhead) {
        asm volatile("griddepcontrol.launch_dependents;");
        if (lane == 0)
            asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(source), "r"(width * 2) : "memory");
    }
    asm volatile("griddepcontrol.wait;" ::: "memory");
    if (!kAhead) asm volatile("griddepcontrol.launch_dependents;");
    if (row >= args.rows) return;

    uint4 raw[kPieces], gains[kPieces] = {}, shifts[kPieces] = {};
    const uint32_t nothing = kKind == kSoftmax ? 0xFF80FF80u : 0u;  // -inf or zero past the row's end
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
        const int piece = i * kLanes + lane;
        raw[i] = make_uint4(nothing, nothing, nothing, nothing);
        if (kWhole || piece < pieces) raw[i] = source[piece];
    }
    const bool weighted = kKind != kSoftmax && args.weight != nullptr;
    const bool shifted = kKind == kLayerNorm && args.bias != nullptr;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
        const int piece = i * kLanes + lane;
        const bool inside = kWhole || piece < pieces;
        if (kEarly >= 1 && weighted && inside) gains[i] = __ldg((const uint4*)args.weight + piece);
        if (kEarly >= 2 && shifted && inside) shifts[i] = __ldg((const uint4*)args.bias + piece);
    }

    float top = 0.0f;
    if (kKind == kSoftmax) {
        uint32_t most = kLowest;
#pragma unroll
        for (int i = 0; i < kPieces * 4; ++i) most = largest(most, word(raw, i));
        top = fmaxf(low_half(most), high_half(most));
    }
    float value[kElements];
#pragma unroll
    for (int i = 0; i < kPieces * 4; ++i) {
        value[i * 2] = low_half(word(raw, i));
        value[i * 2 + 1] = high_half(word(raw, i));
    }
    float factor, sum = 0.0f;
    if (kKind == kSoftmax) {
#pragma unroll
        for (int i = 0; i < kElements; ++i) value[i] = exp2_fast((value[i] - top) * kLog2e);
#pragma unroll
        for (int i = 0; i < kElements; ++i) sum += value[i];
        factor = softmax_factor<kLanes>(top, sum, parts[0], parts[1]);
    } else {
        const float inverse = 1.0f / (float)width;
        if (kKind == kLayerNorm) {
#pragma unroll
            for (int i = 0; i < kElements; ++i) sum += value[i];
            const float mean = row_sum<kLanes>(sum, parts[0]) * inverse;
            sum = 0.0f;
#pragma unroll
            for (int i = 0; i < kElements; ++i) {
                value[i] -= mean;
                if (kWhole || i / 8 * kLanes + lane < pieces) sum = fmaf(value[i], value[i], sum);
            }
        } else {
#pragma unroll
            for (int i = 0; i < kElements; ++i) sum = fmaf(value[i], value[i], sum);
        }
        factor = rsqrtf(fmaf(row_sum<kLanes>(sum, parts[1]), inverse, args.epsilon));
    }
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
        const int piece = i * kLanes + lane;
        const bool inside = kWhole || piece < pieces;
        if (kOutput == kBfloat16 && !inside) continue;
        float* const eight = value + i * 8;
#pragma unroll
        for (int j = 0; j < 8; ++j) eight[j] *= factor;
        if (weighted) {
            uint4 gain = gains[i];
            if (kEarly < 1 && inside) gain = __ldg((const uint4*)args.weight + piece);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                eight[j * 2] *= low_half(word(&gain, j));
                eight[j * 2 + 1] *= high_half(word(&gain, j));
            }
        }
        if (shifted) {
            uint4 shift = shifts[i];
            if (kEarly < 2 && inside) shift = __ldg((const uint4*)args.bias + piece);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                eight[j * 2] += low_half(word(&shift, j));
                eight[j * 2 + 1] += high_half(word(&shift, j));
            }
        }
        if constexpr (kOutput == kBfloat16) {
            ((uint4*)args.out)[row * pieces + piece] = make_uint4(
                pack(eight[0], eight[1]), pack(eight[2], eight[3]), pack(eight[4], eight[5]), pack(eight[6], eight[7]));
        } else {
            const int scale = block_scale<kOutput>(eight);
            if (!inside) continue;
            ((uint2*)args.out)[row * pieces + piece] = encode_eight<kOutput>(eight, scale);
            if (lane % 4 == 0) args.scales[row * (pieces / 4) + piece / 4] = (uint8_t)scale;
        }
    }
}

template <int kKind, int kLanes, int kPieces, int kThreads, int kEarly, int kBlocks, int kOutput>
cudaError_t launch(const Arguments& args, cudaStream_t stream) {
    constexpr int kRows = kThreads / kLanes;
    cudaLaunchAttribute overlap;
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)((args.rows + kRows - 1) / kRows));
    config.blockDim = dim3(kThreads);
    config.stream = stream;
    config.attrs = &overlap;
    config.numAttrs = 1;
    const auto kernel = args.width == kLanes * kPieces * 8
                            ? rows_kernel<kKind, kLanes, kPieces, kThreads, kEarly, kBlocks, true, kOutput>
                            : rows_kernel<kKind, kLanes, kPieces, kThreads, kEarly, kBlocks, false, kOutput>;
    return cudaLaunchKernelEx(&config, kernel, args);
}

}  // namespace
