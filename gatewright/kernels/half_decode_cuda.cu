// y[M, N] = x[M, K] . w[N, K]^T for M = 1 .. 16 and weights in a block format, for Hopper GPUs, through the fp16 tensor cores.
//
// Every element of these formats is exact in fp16, E2M1 times NVFP4's scale too. x is scaled to fp16, once a row and slice of
// 256 k, by the power of two below the slice's largest magnitude: elements within 2^-17 of that are exact (E2M1: 2^-24), the rest
// to 2^-25 of it (2^-32). Infinities in x give NaN. A block's dot product starts at zero and is scaled and added in float32;
// NVFP4's sums need no scaling.
//
// A warp keeps its 256 k of x in registers, as the tensor cores' right operand, and goes down the rows of weights 16 at a
// time; the order of k inside a block is free, so a lane's 8 consecutive elements are whatever k the fragment layout gives it.
// The 8 warps of a block have neighbouring k and add their sums in shared memory. Blocks that split K further
// leave float32 partial sums, which the last of them to finish adds in order, so that results do not vary.
// Each warp has a queue of asynchronous copies: 16 rows of 128 bytes and their scales.
//
// The launch overlaps its predecessor's end. Weights that the caller promised not to write any more (`early`) are
// fetched before the wait on the predecessor, all else after it.
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace {

enum Format { kMxint8 = 0, kMxfp8 = 1, kMxfp4 = 2, kNvfp4 = 3 };

template <int FORMAT>
struct Layout {
    static constexpr bool kNibbles = FORMAT >= kMxfp4;
    static constexpr int kChunk = kNibbles ? 256 : 128;          // k in 128 bytes of a row: whole lines
    static constexpr int kBlocks = kChunk / 32;                  // pieces of 32 elements
    static constexpr int kScaleBytes = FORMAT == kNvfp4 ? 16 : kBlocks;
    // Rows of a slot are apart by an odd multiple of what a row's four lanes read together: no bank conflicts. The
    // row's scales lie in the gap.
    static constexpr int kPitch = kNibbles ? 144 : 160;
    static constexpr int kSlot = 16 * kPitch;
    static constexpr int kDecoded = 16 * (FORMAT == kNvfp4 ? 32 : kBlocks * 4);  // bytes of a chunk's decoded scales
    // Decoded elements are 2^-kLift of their values; x is scaled to begin at 2^kLift.
    static constexpr int kLift = FORMAT == kMxfp4 ? 14 : FORMAT == kNvfp4 ? 7 : 0;
};

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return (uint32_t)__cvta_generic_to_shared(pointer);
}
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

// Loads of x, in this place among the copies.
__device__ __forceinline__ uint4 load_ordered(const void* pointer) {
    uint4 v;
    asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(pointer) : "memory");
    return v;
}

__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
    return __byte_perm(a, b, selector);
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
// Two E4M3 codes as fp16: exact, NaN included.
__device__ __forceinline__ uint32_t e4m3_pair(uint32_t codes) {
    uint32_t d;
    asm("{.reg .b16 low, high;\n mov.b32 {low, high}, %1;\n cvt.rn.f16x2.e4m3x2 %0, low;}" : "=r"(d) : "r"(codes));
    return d;
}

// 8 nibbles of E2M1 to fp16 x 2^-14: the code's fields, moved. Elements 0 2 4 6 and 1 3 5 7.
__device__ __forceinline__ void decode_e2m1(uint32_t word, uint32_t (&p)[4]) {
    const uint32_t even = (word << 4 & 0x80808080u) | (word << 1 & 0x0E0E0E0Eu);
    const uint32_t odd = (word & 0x80808080u) | (word >> 3 & 0x0E0E0E0Eu);
    p[0] = permute(even, 0, 0x1404);
    p[1] = permute(even, 0, 0x3424);
    p[2] = permute(odd, 0, 0x1404);
    p[3] = permute(odd, 0, 0x3424);
}

// 4 codes of MXINT8 to fp16: 1024 + 128 + code in the low bits, then times 2^-6 less 18.
__device__ __forceinline__ void decode_int8(uint32_t word, uint32_t& p0, uint32_t& p1) {
    const uint32_t biased = word ^ 0x80808080u;
    p0 = fma2(permute(biased, 0x64646464u, 0x4140), 0x24002400u, 0xCC80CC80u);
    p1 = fma2(permute(biased, 0x64646464u, 0x4342), 0x24002400u, 0xCC80CC80u);
}

// 2^(code - 127) in float32: subnormal at the end, NaN for 255.
__device__ __forceinline__ float power(uint32_t code) {
    const uint32_t bits = max(code << 23, 0x00400000u);
    return __uint_as_float(code == 255 ? 0x7FC00000u : bits);
}

__device__ __forceinline__ float activate(float value, int kind) {
    if (kind == 1) return fmaxf(value, 0.0f);
    if (kind == 2) return 0.5f * value * (1.0f + erff(value * 0.70710678f));
    if (kind == 3) return value / (1.0f + __expf(-value));
    return value;
}

struct Arguments {
    const uint8_t* codes;
    const uint8_t* scales;
    const __nv_bfloat16* x;
    const __nv_bfloat16* bias;  // [N] or null
    __nv_bfloat16* y;
    float* partial;  // [splits][16-row tiles][128 TILES], unless K is not split
    int* arrived;    // [row groups], zero before and after
    int m, n, k, tiles, activation, early;  // tiles: of 16 rows, to a block
};

// A chunk's scales, from the gaps of its slot, to float32 (NVFP4: to fp16 x 2^7, first those of even halves of 32).
template <int FORMAT>
__device__ __forceinline__ void decode_scales(const uint8_t* stage, uint8_t* decoded, int lane) {
    using L = Layout<FORMAT>;
    const uint8_t* const raw = stage + (lane >> 1) * L::kPitch + 128;
    const int half = lane & 1;
    if constexpr (FORMAT == kNvfp4) {
        const uint4 v = *(const uint4*)raw;
        const uint32_t selector = half ? 0x7531u : 0x6420u;
        const uint32_t first = permute(v.x, v.y, selector), second = permute(v.z, v.w, selector);
        uint4 out;
        out.x = mul2(e4m3_pair(first), 0x58005800u);
        out.y = mul2(e4m3_pair(first >> 16), 0x58005800u);
        out.z = mul2(e4m3_pair(second), 0x58005800u);
        out.w = mul2(e4m3_pair(second >> 16), 0x58005800u);
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

// Result `index` of a tile, in the order of the fragments: column (row of x) and row from `top`.
__device__ __forceinline__ void store(const Arguments& args, float value, int top, int index) {
    const int column = index / 128 * 8 + (index >> 2 & 3) * 2 + (index & 1);
    const int n = top + (index >> 4 & 7) + (index >> 1 & 1) * 8;
    if (column >= args.m || n >= args.n) return;
    if (args.bias != nullptr) value += __bfloat162float(args.bias[n]);
    args.y[(size_t)column * args.n + n] = __float2bfloat16(activate(value, args.activation));
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
        const int one = NIBBLES ? (j & 1) * 4 + (j >> 1) : 2 * j, other = NIBBLES ? one + 2 : one + 1;
        const __half2 pair = __floats2half2_rn(f[one], f[other]);
        b[j] = *(const uint32_t*)&pair;
    }
}

constexpr int kWarps = 8, kThreads = kWarps * 32, kSlice = 256;  // k to a warp

template <int FORMAT, int TILES, int RING>
constexpr int shared_bytes() {
    return kWarps * (RING * Layout<FORMAT>::kSlot + Layout<FORMAT>::kDecoded) + 2 * kWarps * TILES * 512;
}

// TILES: 8-row tiles of x. RING: a queue's chunks. BLOCKS: blocks to a multiprocessor.
template <int FORMAT, int TILES, int RING, int BLOCKS>
__global__ void __launch_bounds__(kThreads, BLOCKS) half_decode(const Arguments args) {
    using L = Layout<FORMAT>;
    constexpr int kParts = kSlice / L::kChunk;  // chunks of a tile
    constexpr int kScaleSize = FORMAT == kNvfp4 ? 16 : 32;
    constexpr int kResults = 128 * TILES;
    extern __shared__ __align__(128) uint8_t memory[];
    asm volatile("griddepcontrol.launch_dependents;");

    float* const sums = (float*)memory;  // [2][warp][TILES][lane][4]
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    uint8_t* const queue = memory + 2 * kWarps * TILES * 512 + warp * (RING * L::kSlot + L::kDecoded);
    uint8_t* const decoded = queue + RING * L::kSlot;
    const int row = lane >> 2, part = lane & 3;
    const int slice = blockIdx.x * kWarps + warp;
    const int all_tiles = (args.n + 15) / 16, first = blockIdx.y * args.tiles, tiles = min(args.tiles, all_tiles - first);
    const bool works = slice < args.k / kSlice;
    const int count = works ? tiles * kParts : 0;
    // The last tile begins early enough to be whole.
    auto top = [&](int tile) { return max(min((first + tile) * 16, args.n - 16), 0); };

    // Eight lanes copy a row's line, four rows at a time; 16 lanes copy the rows' scales.
    const size_t stride = L::kNibbles ? args.k / 2 : args.k;
    const int scale_stride = args.k / kScaleSize;
    const uint8_t* const code = args.codes + (size_t)slice * (128 * kParts) + (lane & 7) * 16;
    uint32_t offset[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) offset[j] = (uint32_t)min(j * 4 + (lane >> 3), args.n - 1) * (uint32_t)stride;
    const uint8_t* const scale =
        args.scales + (size_t)min(lane & 15, args.n - 1) * scale_stride + slice * (kSlice / kScaleSize);
    const uint32_t target = shared_address(queue) + (lane >> 3) * L::kPitch + (lane & 7) * 16;
    const uint32_t scale_target = shared_address(queue) + (lane & 15) * L::kPitch + 128;
    auto fetch = [&](int i, int slot) {
        if (i < count) {
            const int n = top(i / kParts), chunk = i % kParts;
            const uint8_t* const from = code + n * stride + chunk * 128;
#pragma unroll
            for (int j = 0; j < 4; ++j) copy16(target + slot * L::kSlot + j * 4 * L::kPitch, from + offset[j]);
            if (lane < 16)
                copy_small<L::kScaleBytes>(scale_target + slot * L::kSlot,
                                           scale + (size_t)n * scale_stride + chunk * L::kScaleBytes);
        }
        commit();
    };
    // A short product's x goes before half of the queue, which would hold it up.
    constexpr int kAhead = L::kNibbles ? 2 : RING;
    if (!args.early) asm volatile("griddepcontrol.wait;" ::: "memory");
#pragma unroll
    for (int i = 0; i < kAhead; ++i) fetch(i, i);
    asm volatile("griddepcontrol.wait;" ::: "memory");

    uint32_t b[TILES][8][4];  // x; columns past M repeat the last row, and are not stored
    float unit[TILES][2];
    uint4 raw[TILES][8];
#pragma unroll
    for (int t = 0; t < TILES; ++t) {
        const uint4* const source =
            (const uint4*)(args.x + (size_t)min(t * 8 + row, args.m - 1) * args.k + slice * kSlice) + part;
#pragma unroll
        for (int i = 0; i < 8; ++i) raw[t][i] = works ? load_ordered(source + i * 4) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = kAhead; i < RING; ++i) fetch(i, i);
#pragma unroll
    for (int t = 0; t < TILES; ++t) {
        uint32_t largest = 0;
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) largest = __vmaxu2(largest, (&raw[t][i].x)[j] & 0x7FFF7FFFu);
        largest = max(largest & 0xFFFFu, largest >> 16);
        largest = max(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, 1));
        largest = max(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, 2));
        const uint32_t exponent = min(max(largest >> 7, L::kLift + 1u), 253u);
        const float factor = __uint_as_float((254u + L::kLift - exponent) << 23);
        const float mine = __uint_as_float(largest >> 7 == 255u ? 0x7FC00000u : exponent << 23);
#pragma unroll
        for (int i = 0; i < 8; ++i) convert<L::kNibbles>(raw[t][i], factor, b[t][i]);
#pragma unroll
        for (int j = 0; j < 2; ++j) unit[t][j] = __shfl_sync(0xFFFFFFFFu, mine, part * 8 + j * 4);
    }

    int slot = 0;
    for (int tile = 0; tile < tiles; ++tile) {
        float sum[TILES][4] = {};
        if (works) {
#pragma unroll
            for (int chunk = 0; chunk < kParts; ++chunk) {
                wait_copies<RING - 1>();
                __syncwarp();  // lanes read what others copied
                const uint8_t* const stage = queue + slot * L::kSlot + row * L::kPitch + part * (L::kNibbles ? 4 : 8);
                decode_scales<FORMAT>(queue + slot * L::kSlot, decoded, lane);
                __syncwarp();
                float scales[2][L::kBlocks];
                uint32_t pairs[2][4];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    if constexpr (FORMAT == kNvfp4) {
                        *(uint4*)pairs[half] = *(const uint4*)(decoded + (row + half * 8) * 32 + (part >> 1) * 16);
                    } else {
#pragma unroll
                        for (int k = 0; k < L::kBlocks; k += 4)
                            *(float4*)(scales[half] + k) =
                                *(const float4*)(decoded + ((row + half * 8) * L::kBlocks + k) * 4);
                    }
                }
#pragma unroll
                for (int k = 0; k < L::kBlocks; ++k) {
                    uint32_t a[2][4];
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const uint8_t* const line = stage + half * 8 * L::kPitch;
                        if constexpr (L::kNibbles) {
                            uint32_t p[4];
                            decode_e2m1(*(const uint32_t*)(line + k * 16), p);
                            if constexpr (FORMAT == kNvfp4) {
                                const uint32_t pair = permute(pairs[half][k >> 1], 0, k & 1 ? 0x3232 : 0x1010);
#pragma unroll
                                for (int j = 0; j < 4; ++j) p[j] = mul2(p[j], pair);
                            }
                            a[0][half] = p[0], a[0][2 + half] = p[1];
                            a[1][half] = p[2], a[1][2 + half] = p[3];
                        } else {
                            const uint2 v = *(const uint2*)(line + k * 32);
                            if constexpr (FORMAT == kMxint8) {
                                decode_int8(v.x, a[0][half], a[0][2 + half]);
                                decode_int8(v.y, a[1][half], a[1][2 + half]);
                            } else {
                                a[0][half] = e4m3_pair(v.x), a[0][2 + half] = e4m3_pair(v.x >> 16);
                                a[1][half] = e4m3_pair(v.y), a[1][2 + half] = e4m3_pair(v.y >> 16);
                            }
                        }
                    }
#pragma unroll
                    for (int t = 0; t < TILES; ++t) {
                        const uint32_t(&v)[4] = b[t][chunk * L::kBlocks + k];
                        if constexpr (FORMAT == kNvfp4) {
                            mma(sum[t], a[0], v[0], v[1]);
                            mma(sum[t], a[1], v[2], v[3]);
                        } else {
                            float c[4] = {};
                            mma(c, a[0], v[0], v[1]);
                            mma(c, a[1], v[2], v[3]);
#pragma unroll
                            for (int j = 0; j < 4; ++j) sum[t][j] = fmaf(c[j], scales[j >> 1][k], sum[t][j]);
                        }
                    }
                }
                __syncwarp();  // all have read before the slot is filled again
                fetch(tile * kParts + chunk + RING, slot);
                slot = slot == RING - 1 ? 0 : slot + 1;
            }
        }
        // Two buffers: a barrier separates a buffer's next use from the reads of its last.
        float* const buffer = sums + (tile & 1) * (kWarps * kResults);
#pragma unroll
        for (int t = 0; t < TILES; ++t)
            *(float4*)(buffer + warp * kResults + t * 128 + lane * 4) = make_float4(
                sum[t][0] * unit[t][0], sum[t][1] * unit[t][1], sum[t][2] * unit[t][0], sum[t][3] * unit[t][1]);
        __syncthreads();
        if (threadIdx.x < kResults) {
            float total = 0.0f;
#pragma unroll
            for (int w = 0; w < kWarps; ++w) total += buffer[w * kResults + threadIdx.x];
            if (gridDim.x > 1)
                args.partial[((size_t)blockIdx.x * all_tiles + first + tile) * kResults + threadIdx.x] = total;
            else
                store(args, total, top(tile), threadIdx.x);
        }
    }
    wait_copies<0>();
    if (gridDim.x == 1) return;

    __shared__ int last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(args.arrived + blockIdx.y, 1) == gridDim.x - 1;
        if (last) args.arrived[blockIdx.y] = 0;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
#pragma unroll 4
    for (int i = threadIdx.x; i < tiles * (kResults / 4); i += kThreads) {
        float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 4
        for (int s = 0; s < gridDim.x; ++s) {
            const float4 v = __ldcg((const float4*)(args.partial + ((size_t)s * all_tiles + first) * kResults) + i);
            total.x += v.x, total.y += v.y, total.z += v.z, total.w += v.w;
        }
        const int tile = i / (kResults / 4), index = i % (kResults / 4) * 4;
#pragma unroll
        for (int j = 0; j < 4; ++j) store(args, (&total.x)[j], top(tile), index + j);
    }
}

template <int FORMAT, int TILES, int RING, int BLOCKS>
int launch(const Arguments& args, cudaStream_t stream) {
    const int bytes = shared_bytes<FORMAT, TILES, RING>();
    const auto kernel = half_decode<FORMAT, TILES, RING, BLOCKS>;
    const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (status != cudaSuccess) return (int)status;
    cudaLaunchAttribute attribute;
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    const int all_tiles = (args.n + 15) / 16, slices = args.k / kSlice;
    config.gridDim = dim3((slices + kWarps - 1) / kWarps, (all_tiles + args.tiles - 1) / args.tiles);
    config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return (int)cudaLaunchKernelEx(&config, kernel, args);
}

template <int FORMAT, int TILES>
int choose(const Arguments& args, int shape, cudaStream_t stream) {
    return shape == 0 ? launch<FORMAT, TILES, 3, 2>(args, stream) : launch<FORMAT, TILES, 4, 2>(args, stream);
}

}  // namespace

// K is a multiple of 256. `partial` holds splits x 16-row tiles x 128 floats (256 for M > 8), where splits is K / 2048 rounded
// up; `arrived` a zero for each group of `tiles` tiles. `early`: weights and scales may be read before the
// launch's predecessor ends, because nobody writes them. Returns a cudaError_t.
extern "C" int half_decode_product(
    const void* codes, const void* scales, const void* x, const void* bias, void* y, void* partial, void* arrived,
    long long m, long long n, long long k, long long tiles, long long activation, long long format, long long shape,
    long long early, cudaStream_t stream) {
    const Arguments args{
        (const uint8_t*)codes, (const uint8_t*)scales, (const __nv_bfloat16*)x, (const __nv_bfloat16*)bias,
        (__nv_bfloat16*)y, (float*)partial, (int*)arrived, (int)m, (int)n, (int)k, (int)tiles, (int)activation,
        (int)early};
    const int which = (int)shape;
    const bool wide = m > 8;
    switch (format) {
        case kMxint8: return wide ? choose<kMxint8, 2>(args, which, stream) : choose<kMxint8, 1>(args, which, stream);
        case kMxfp8: return wide ? choose<kMxfp8, 2>(args, which, stream) : choose<kMxfp8, 1>(args, which, stream);
        case kMxfp4: return wide ? choose<kMxfp4, 2>(args, which, stream) : choose<kMxfp4, 1>(args, which, stream);
        default: return wide ? choose<kNvfp4, 2>(args, which, stream) : choose<kNvfp4, 1>(args, which, stream);
    }
}
