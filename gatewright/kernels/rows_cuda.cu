// Softmax, layer norm and RMS norm of bfloat16 rows, for Hopper GPUs: one pass over memory, a row in registers.
//
// A group of lanes takes one row and ends; the hardware hands out the next. (Blocks that stay and queue rows in shared
// memory were slower: 87% of the copy's rate where this reaches 95%.) A lane holds pieces of 8 elements that are
// neighbours of the other lanes' pieces. What counts is that nothing waits: gains and shifts are fetched with the row as
// far as registers allow, groups join at barriers of their own, the softmax meets once for maximum and sum, and a launch
// sets up while its predecessor ends: it asks for its rows to be brought to the L2 cache, which is right whoever
// writes them until then, as nothing is read.
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace {

constexpr int kSoftmax = 0, kLayerNorm = 1, kRmsNorm = 2;
constexpr float kLog2e = 1.4426950408889634f;
constexpr uint32_t kLowest = 0xFF7FFF7Fu;  // finite: a row that is all -inf gives 0 / 0, as PyTorch's does

struct Arguments {
    const __nv_bfloat16* values;  // [rows, width]
    const __nv_bfloat16* weight;  // [width] or null
    const __nv_bfloat16* bias;
    __nv_bfloat16* out;
    long long rows;
    int width;  // a multiple of 8
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

template <int kLanes>
__device__ __forceinline__ void join(int group) {
    asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "n"(kLanes) : "memory");
}

// Sums over a group; `parts` has a place for each of its warps, used once.
template <int kLanes>
__device__ __forceinline__ float group_sum(float value, float* parts, int group) {
#pragma unroll
    for (int distance = 16; distance; distance /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, distance);
    if (kLanes > 32) {
        if (threadIdx.x % 32 == 0) parts[threadIdx.x % kLanes / 32] = value;
        join<kLanes>(group);
        value = 0.0f;
#pragma unroll
        for (int warp = 0; warp < kLanes / 32; ++warp) value += parts[warp];
    }
    return value;
}

// The factor of a lane's exponentials: they were taken relative to its own `top`, and add up to `sum`.
template <int kLanes>
__device__ __forceinline__ float softmax_factor(float top, float sum, float* tops, float* sums, int group) {
    float all = top;
#pragma unroll
    for (int distance = 16; distance; distance /= 2) all = fmaxf(all, __shfl_xor_sync(0xFFFFFFFFu, all, distance));
    sum *= exp2_fast((top - all) * kLog2e);
#pragma unroll
    for (int distance = 16; distance; distance /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, distance);
    if (kLanes > 32) {
        constexpr int kWarps = kLanes / 32;
        if (threadIdx.x % 32 == 0) tops[threadIdx.x % kLanes / 32] = all, sums[threadIdx.x % kLanes / 32] = sum;
        join<kLanes>(group);
#pragma unroll
        for (int warp = 0; warp < kWarps; ++warp) all = fmaxf(all, tops[warp]);
        sum = 0.0f;
#pragma unroll
        for (int warp = 0; warp < kWarps; ++warp) sum += sums[warp] * exp2_fast((tops[warp] - all) * kLog2e);
    }
    return __fdividef(exp2_fast((top - all) * kLog2e), sum);
}

// kEarly: 0 nothing, 1 gains, 2 gains and shifts are fetched with the row.
// kBlocks: at least so many blocks to a multiprocessor.
template <int kKind, int kLanes, int kPieces, int kThreads, int kEarly, int kBlocks>
__global__ void __launch_bounds__(kThreads, kBlocks) rows_kernel(const Arguments args) {
    constexpr int kGroups = kThreads / kLanes, kElements = kPieces * 8;
    __shared__ float parts[2][kThreads / 32];
    const int group = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
    const long long row = (long long)blockIdx.x * kGroups + group;
    const int pieces = args.width / 8;
    const uint4* const source = (const uint4*)(args.values + row * args.width);
    constexpr bool kAhead = kLanes > 32;  // short rows are over too soon to gain
    if (kAhead) {
        asm volatile("griddepcontrol.launch_dependents;");
        if (lane == 0 && row < args.rows)
            asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(source), "r"(args.width * 2) : "memory");
    }
    asm volatile("griddepcontrol.wait;" ::: "memory");
    if (!kAhead) asm volatile("griddepcontrol.launch_dependents;");
    if (row >= args.rows) return;
    uint4* const target = (uint4*)(args.out + row * args.width);
    float* const first = &parts[0][group * (kLanes / 32)];
    float* const second = &parts[1][group * (kLanes / 32)];

    uint4 raw[kPieces], gains[kPieces] = {}, shifts[kPieces] = {};
    const uint32_t nothing = kKind == kSoftmax ? 0xFF80FF80u : 0u;  // -inf or zero past the row's end
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
        raw[i] = make_uint4(nothing, nothing, nothing, nothing);
        if (i * kLanes + lane < pieces) raw[i] = source[i * kLanes + lane];
    }
    const bool weighted = kKind != kSoftmax && args.weight != nullptr;
    const bool shifted = kKind == kLayerNorm && args.bias != nullptr;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
        const int piece = i * kLanes + lane;
        if (kEarly >= 1 && weighted && piece < pieces) gains[i] = __ldg((const uint4*)args.weight + piece);
        if (kEarly >= 2 && shifted && piece < pieces) shifts[i] = __ldg((const uint4*)args.bias + piece);
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
        factor = softmax_factor<kLanes>(top, sum, first, second, group);
    } else {
        const float inverse = 1.0f / (float)args.width;
        if (kKind == kLayerNorm) {
#pragma unroll
            for (int i = 0; i < kElements; ++i) sum += value[i];
            const float mean = group_sum<kLanes>(sum, first, group) * inverse;
            sum = 0.0f;
#pragma unroll
            for (int i = 0; i < kElements; ++i) {
                value[i] -= mean;
                if (i / 8 * kLanes + lane < pieces) sum = fmaf(value[i], value[i], sum);
            }
        } else {
#pragma unroll
            for (int i = 0; i < kElements; ++i) sum = fmaf(value[i], value[i], sum);
        }
        factor = rsqrtf(fmaf(group_sum<kLanes>(sum, second, group), inverse, args.epsilon));
    }
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
        const int piece = i * kLanes + lane;
        if (piece >= pieces) continue;
        float* const eight = value + i * 8;
#pragma unroll
        for (int j = 0; j < 8; ++j) eight[j] *= factor;
        if (weighted) {
            const uint4 gain = kEarly >= 1 ? gains[i] : __ldg((const uint4*)args.weight + piece);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                eight[j * 2] *= low_half(word(&gain, j));
                eight[j * 2 + 1] *= high_half(word(&gain, j));
            }
        }
        if (shifted) {
            const uint4 shift = kEarly >= 2 ? shifts[i] : __ldg((const uint4*)args.bias + piece);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                eight[j * 2] += low_half(word(&shift, j));
                eight[j * 2 + 1] += high_half(word(&shift, j));
            }
        }
        target[piece] = make_uint4(pack(eight[0], eight[1]), pack(eight[2], eight[3]), pack(eight[4], eight[5]),
                                   pack(eight[6], eight[7]));
    }
}

template <int kKind, int kLanes, int kPieces, int kThreads, int kEarly, int kBlocks>
cudaError_t launch(const Arguments& args, cudaStream_t stream) {
    constexpr int kGroups = kThreads / kLanes;
    cudaLaunchAttribute overlap;
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)((args.rows + kGroups - 1) / kGroups));
    config.blockDim = dim3(kThreads);
    config.stream = stream;
    config.attrs = &overlap;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, rows_kernel<kKind, kLanes, kPieces, kThreads, kEarly, kBlocks>, args);
}

// The shapes of rows_cuda.py: lanes to a row, pieces to a lane, threads to a block.
template <int kKind>
cudaError_t launch(const Arguments& args, long long shape, cudaStream_t stream) {
    switch (shape) {
        case 0: return launch<kKind, 32, 4, 64, 2, 1>(args, stream);
        case 1: return launch<kKind, 64, 4, 128, 2, 1>(args, stream);
        case 2: return launch<kKind, 128, 4, 256, 1, 1>(args, stream);
        case 3: return launch<kKind, 256, 2, 512, 1, 1>(args, stream);
        case 4: return launch<kKind, 256, 4, 256, 1, 4>(args, stream);
        case 5: return launch<kKind, 512, 4, 512, 1, 2>(args, stream);
        case 6: return launch<kKind, 256, 8, 256, 0, kKind == kSoftmax ? 2 : 3>(args, stream);
    }
    return cudaErrorInvalidValue;
}

}  // namespace

// All tensors contiguous, from 16-byte boundaries. Returns a cudaError_t.
extern "C" int rows_bfloat16(
    const void* values, const void* weight, const void* bias, void* out, long long kind, long long rows, long long width,
    long long shape, float epsilon, cudaStream_t stream) {
    const Arguments args{
        (const __nv_bfloat16*)values, (const __nv_bfloat16*)weight, (const __nv_bfloat16*)bias, (__nv_bfloat16*)out, rows,
        (int)width, epsilon};
    switch (kind) {
        case kSoftmax: return (int)launch<kSoftmax>(args, shape, stream);
        case kLayerNorm: return (int)launch<kLayerNorm>(args, shape, stream);
        case kRmsNorm: return (int)launch<kRmsNorm>(args, shape, stream);
    }
    return (int)cudaErrorInvalidValue;
}
