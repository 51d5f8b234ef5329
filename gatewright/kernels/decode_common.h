// What the products of few rows share: asynchronous copies, loads, bit permutations, formats' scales, the epilogue.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <mutex>

namespace {

enum Format { kMxint8 = 0, kMxfp8 = 1, kMxfp4 = 2, kNvfp4 = 3, kInt8 = 4, kInt4 = 5 };

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

// Asynchronous copies to shared memory, in groups: 16 bytes past the L1 cache, or 4, 8 or 16.
__device__ __forceinline__ void copy16(uint32_t to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
template <int BYTES>
__device__ __forceinline__ void copy_small(uint32_t to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(BYTES) : "memory");
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// The launch after this one may begin; and this one goes on once its predecessor has ended and its results are visible.
__device__ __forceinline__ void let_next_launch_begin() { asm volatile("griddepcontrol.launch_dependents;"); }
__device__ __forceinline__ void wait_for_previous_launch() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// Fetches `bytes` of x into the L2 cache, each block a few of its lines, ahead of the weights' copies that would hold them up. What
// the previous launch may still write there is no matter: the L2 cache is where all multiprocessors meet.
__device__ __forceinline__ void prefetch_lines(const void* x, size_t bytes) {
    const size_t blocks = (size_t)gridDim.x * gridDim.y, block = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    for (size_t at = (block + threadIdx.x * blocks) * 128; at < bytes; at += blockDim.x * blocks * 128)
        asm volatile("prefetch.global.L2 [%0];" ::"l"((const char*)x + at));
}

// Loads of x, in this place among the copies and behind the wait. Not `.nc`: the assembler moves a load of what is never written to
// before griddepcontrol.wait, and a launch that begins early would read x before its predecessor has written it.
__device__ __forceinline__ uint4 load_ordered(const void* pointer) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(pointer) : "memory");
    return v;
}

// prmt itself: the intrinsic masks the selectors' top bits, which spread a byte's sign.
__device__ __forceinline__ uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
    uint32_t result;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(selector));
    return result;
}

// Two E4M3 codes, in the low half, as fp16: exact, NaN included.
__device__ __forceinline__ uint32_t e4m3_halves(uint32_t codes) {
    uint32_t pair;
    asm("{.reg .b16 low, high;\n mov.b32 {low, high}, %1;\n cvt.rn.f16x2.e4m3x2 %0, low;}" : "=r"(pair) : "r"(codes));
    return pair;
}

// 2^(code - 127) in float32: subnormal at the end, NaN for 255.
__device__ __forceinline__ float power(uint32_t code) {
    const uint32_t bits = max(code << 23, 0x00400000u);
    return __uint_as_float(code == 255 ? 0x7FC00000u : bits);
}

// The larger of the magnitudes of eight bfloat16, as its bits: NaN and infinities above all others.
__device__ __forceinline__ uint32_t largest_magnitude(const uint4& v) {
    uint32_t largest = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) largest = __vmaxu2(largest, (&v.x)[j] & 0x7FFF7FFFu);
    return max(largest & 0xFFFFu, largest >> 16);
}

// None, ReLU, GELU, SiLU.
__device__ __forceinline__ float activate(float value, int kind) {
    if (kind == 1) return value < 0.0f ? 0.0f : value;  // fmaxf would lose NaN
    if (kind == 2) return 0.5f * value * (1.0f + erff(value * 0.70710678f));
    if (kind == 3) return value / (1.0f + __expf(-value));
    return value;
}

// A share of the 16-row tiles of the weights: tiles first, first + step, ... below `end`, a turn each.
struct Tiles {
    int first, step, turns, end;
    int rows;  // N, at least 16: the last tile begins early enough to be whole

    __device__ __forceinline__ int top(int turn) const { return min((first + turn * step) * 16, rows - 16); }
};

// A warp's queue of asynchronous copies, RING chunks deep: 16 rows of 128 bytes of the codes, then their scales. Eight lanes
// copy a row's line, four rows at a time, its pieces of 16 bytes swapped about (`swap(row)` is what their numbers are combined with)
// so that lanes that read them together find them in different banks; 16 lanes copy the rows' scales, if any. In each turn the warp takes
// `count` chunks, PARTS neighbours and then those `skip` chunks further on.
template <int SCALE_BYTES, int PARTS, int RING, typename Swap>
struct Queue {
    static constexpr int kSlot = (16 * (128 + SCALE_BYTES) + 127) / 128 * 128;
    const uint8_t *codes, *scales;  // this lane's, in row 0
    const uint8_t *code, *scale;    // this lane's next
    uint32_t target, scale_target;
    int chunks;  // in a row of the weights
    int count, skip, left, turn;
    Tiles tiles;

    __device__ __forceinline__ Queue(
        const Tiles& share, const uint8_t* all_codes, const uint8_t* all_scales, int row_chunks, int first, int taken,
        int skipped, uint32_t memory)
        : chunks(row_chunks), count(taken), skip(skipped), left(0), turn(0), tiles(share) {
        const int lane = threadIdx.x & 31;
        codes = all_codes + ((size_t)(lane >> 3) * chunks + first) * 128 + (lane & 7) * 16;
        scales = all_scales + ((size_t)(lane & 15) * chunks + first) * SCALE_BYTES;
        target = memory + (lane >> 3) * 128;
        scale_target = memory + 2048 + (lane & 15) * SCALE_BYTES;
        if (count == 0) tiles.turns = 0;
    }

    __device__ __forceinline__ void fetch(int slot) {
        const int lane = threadIdx.x & 31;
        if (left == 0 && turn < tiles.turns) {
            const size_t n = tiles.top(turn++);
            left = count;
            code = codes + n * chunks * 128;
            scale = scales + n * chunks * SCALE_BYTES;
        }
        if (left > 0) {
            --left;
#pragma unroll
            for (int j = 0; j < 4; ++j)
                copy16(target + slot * kSlot + j * 512 + ((lane & 7) ^ Swap::of(j * 4 + (lane >> 3))) * 16,
                       code + (size_t)(j * 4 * chunks) * 128);
            if constexpr (SCALE_BYTES > 0) {
                if (lane < 16) copy_small<SCALE_BYTES>(scale_target + slot * kSlot, scale);
            }
            const int step = PARTS == 1 || (left & 1) == 0 ? skip + 1 : 1;
            code += (size_t)step * 128;
            scale += step * SCALE_BYTES;
        }
        commit();
    }
};

// The tiles of warp group `group` of `groups` in block `block` of `blocks`, and the turns of the whole block.
__device__ __forceinline__ Tiles share_tiles(int n, int block, int blocks, int group, int groups, int& turns) {
    const int tiles = (n + 15) / 16;
    const int begin = (int)((long long)tiles * block / blocks), end = (int)((long long)tiles * (block + 1) / blocks);
    turns = (end - begin + groups - 1) / groups;
    return {begin + group, groups, max(end - begin - group + groups - 1, 0) / groups, end, n};
}

// Launches `kernel` in clusters of `cluster` blocks along x; it may begin before its predecessor ends. One
// thread at a time: the memory that a kernel may have is a setting of the kernel, and another call's may be smaller.
template <typename Arguments>
cudaError_t launch_overlapping(
    void (*kernel)(Arguments), const Arguments& args, dim3 grid, int threads, int bytes, int cluster,
    cudaStream_t stream) {
    static std::mutex one;
    const std::lock_guard<std::mutex> held(one);
    const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (status != cudaSuccess) return status;
    cudaLaunchAttribute attributes[2];
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = cluster;
    attributes[1].val.clusterDim.y = 1;
    attributes[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = bytes;
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = cluster > 1 ? 2 : 1;
    return cudaLaunchKernelEx(&config, kernel, args);
}

}  // namespace
