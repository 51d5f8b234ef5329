// y[M, N] = x[M, K] . w[N, K]^T for M = 1 .. 16 and weights in a block format, for Hopper GPUs, through the fp16 tensor cores.
//
// See `half_code.h` for how weights and x are held.
//
// A warp keeps its 256 k of x in registers, as the tensor cores' right operand, and goes down the rows of weights 16 at a
// time; the order of k inside a block is free, so a lane's 8 consecutive elements are whatever k the fragment layout gives it.
// The 8 or 16 warps of a block have neighbouring k and add their sums in shared memory. Blocks that split K further
// leave float32 partial sums, which the last of them to finish adds in order, so that results do not vary.
// Each warp has a queue of asynchronous copies: 16 rows of 128 bytes and their scales.
//
// The launch overlaps its predecessor's end. Weights that the caller promised not to write any more (`early`) are
// fetched before the wait on the predecessor, all else after it.
#include "half_code.h"

namespace {

// Rows of a slot are apart by an odd multiple of what a row's four lanes read together: no bank conflicts. The row's
// scales lie in the gap.
template <int FORMAT>
constexpr int kPitch = Layout<FORMAT>::kNibbles ? 144 : 160;
template <int FORMAT>
constexpr int kSlot = 16 * kPitch<FORMAT>;

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

// Result `index` of a tile, in the order of the fragments: column (row of x) and row from `top`.
__device__ __forceinline__ void store(const Arguments& args, float value, int top, int index) {
    const int column = index / 128 * 8 + (index >> 2 & 3) * 2 + (index & 1);
    const int n = top + (index >> 4 & 7) + (index >> 1 & 1) * 8;
    if (column >= args.m || n >= args.n) return;
    if (args.bias != nullptr) value += __bfloat162float(args.bias[n]);
    args.y[(size_t)column * args.n + n] = __float2bfloat16(activate(value, args.activation));
}

template <int FORMAT, int TILES, int RING, int WARPS>
constexpr int shared_bytes() {
    return WARPS * (RING * kSlot<FORMAT> + Layout<FORMAT>::kDecoded) + 2 * WARPS * TILES * 512;
}

// TILES: 8-row tiles of x. RING: a queue's chunks. WARPS: of a block; a multiprocessor has 16.
template <int FORMAT, int TILES, int RING, int WARPS>
__global__ void __launch_bounds__(WARPS * 32, 16 / WARPS) half_decode(const Arguments args) {
    using L = Layout<FORMAT>;
    constexpr int kThreads = WARPS * 32;
    constexpr int kParts = L::kParts;
    constexpr int kScaleSize = FORMAT == kNvfp4 ? 16 : 32;
    constexpr int kResults = 128 * TILES;
    extern __shared__ __align__(128) uint8_t memory[];
    // Beside the only block of a multiprocessor the next launch's has no room: it is called once x is there.
    constexpr bool kAlone = WARPS == 16;
    if constexpr (!kAlone) let_next_launch_begin();

    float* const sums = (float*)memory;  // [2][warp][TILES][lane][4]
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    uint8_t* const queue = memory + 2 * WARPS * TILES * 512 + warp * (RING * kSlot<FORMAT> + L::kDecoded);
    uint8_t* const decoded = queue + RING * kSlot<FORMAT>;
    const int row = lane >> 2, part = lane & 3;
    const int slice = blockIdx.x * WARPS + warp;
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
    const uint32_t target = shared_address(queue) + (lane >> 3) * kPitch<FORMAT> + (lane & 7) * 16;
    const uint32_t scale_target = shared_address(queue) + (lane & 15) * kPitch<FORMAT> + 128;
    auto fetch = [&](int i, int slot) {
        if (i < count) {
            const int n = top(i / kParts), chunk = i % kParts;
            const uint8_t* const from = code + n * stride + chunk * 128;
#pragma unroll
            for (int j = 0; j < 4; ++j) copy16(target + slot * kSlot<FORMAT> + j * 4 * kPitch<FORMAT>, from + offset[j]);
            if (lane < 16)
                copy_small<L::kScaleBytes>(scale_target + slot * kSlot<FORMAT>,
                                           scale + (size_t)n * scale_stride + chunk * L::kScaleBytes);
        }
        commit();
    };
    // A short product's x goes before half of the queue, which would hold it up.
    constexpr int kAhead = L::kNibbles ? 2 : RING;
    if (!args.early) wait_for_previous_launch();
#pragma unroll
    for (int i = 0; i < kAhead; ++i) fetch(i, i);
    wait_for_previous_launch();

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
        for (int i = 0; i < 8; ++i) largest = max(largest, largest_magnitude(raw[t][i]));
        largest = max(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, 1));
        largest = max(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, 2));
        const Scaling scale = scaling<FORMAT>(largest);
#pragma unroll
        for (int i = 0; i < 8; ++i) convert<L::kNibbles>(raw[t][i], scale.factor, b[t][i]);
#pragma unroll
        for (int j = 0; j < 2; ++j) unit[t][j] = __shfl_sync(0xFFFFFFFFu, scale.unit, part * 8 + j * 4);
    }

    if constexpr (kAlone) let_next_launch_begin();

    int slot = 0;
    for (int tile = 0; tile < tiles; ++tile) {
        float sum[TILES][4] = {};
        if (works) {
#pragma unroll
            for (int chunk = 0; chunk < kParts; ++chunk) {
                wait_copies<RING - 1>();
                __syncwarp();  // lanes read what others copied
                const uint8_t* const stage = queue + slot * kSlot<FORMAT> + row * kPitch<FORMAT> + part * (L::kNibbles ? 4 : 8);
                decode_scales<FORMAT>(queue + slot * kSlot<FORMAT> + (lane >> 1) * kPitch<FORMAT> + 128, decoded, lane);
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
                        const uint8_t* const line = stage + half * 8 * kPitch<FORMAT>;
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
                                a[0][half] = e4m3_halves(v.x), a[0][2 + half] = e4m3_halves(v.x >> 16);
                                a[1][half] = e4m3_halves(v.y), a[1][2 + half] = e4m3_halves(v.y >> 16);
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
        float* const buffer = sums + (tile & 1) * (WARPS * kResults);
#pragma unroll
        for (int t = 0; t < TILES; ++t)
            *(float4*)(buffer + warp * kResults + t * 128 + lane * 4) = make_float4(
                sum[t][0] * unit[t][0], sum[t][1] * unit[t][1], sum[t][2] * unit[t][0], sum[t][3] * unit[t][1]);
        __syncthreads();
        if (threadIdx.x < kResults) {
            float total = 0.0f;
#pragma unroll
            for (int w = 0; w < WARPS; ++w) total += buffer[w * kResults + threadIdx.x];
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

template <int FORMAT, int TILES, int RING, int WARPS>
int launch(const Arguments& args, cudaStream_t stream) {
    const int all_tiles = (args.n + 15) / 16;
    const dim3 grid((args.k / kSlice + WARPS - 1) / WARPS, (all_tiles + args.tiles - 1) / args.tiles);
    return (int)launch_overlapping(
        half_decode<FORMAT, TILES, RING, WARPS>, args, grid, WARPS * 32, shared_bytes<FORMAT, TILES, RING, WARPS>(), 1, stream);
}

template <int FORMAT>
int choose(const Arguments& args, int shape, cudaStream_t stream) {
    if (shape == 2) {
        if constexpr (Layout<FORMAT>::kNibbles) {
            if (args.m > 8) return launch<FORMAT, 2, 3, 16>(args, stream);
        }
        return (int)cudaErrorInvalidValue;
    }
    if (args.m > 8)
        return shape == 0 ? launch<FORMAT, 2, 3, 8>(args, stream) : launch<FORMAT, 2, 4, 8>(args, stream);
    return shape == 0 ? launch<FORMAT, 1, 3, 8>(args, stream) : launch<FORMAT, 1, 4, 8>(args, stream);
}

}  // namespace

// K is a multiple of 256. `shape` is the depth of the queues, 3 (0) or 4 (1), in blocks of 8 warps; 2: depth 3 and 16 warps, for
// nibbles and M > 8. `partial` holds splits x 16-row tiles x 128 floats (256 for M > 8), where splits is K / 2048 rounded up, or
// K / 4096 with 16 warps; `arrived` a zero for each group of `tiles` tiles. `early`: weights and scales may be read before the launch's
// predecessor ends, because nobody writes them. Returns a cudaError_t.
extern "C" int half_decode_product(
    const void* codes, const void* scales, const void* x, const void* bias, void* y, void* partial, void* arrived,
    long long m, long long n, long long k, long long tiles, long long activation, long long format, long long shape,
    long long early, cudaStream_t stream) {
    const Arguments args{
        (const uint8_t*)codes, (const uint8_t*)scales, (const __nv_bfloat16*)x, (const __nv_bfloat16*)bias,
        (__nv_bfloat16*)y, (float*)partial, (int*)arrived, (int)m, (int)n, (int)k, (int)tiles, (int)activation,
        (int)early};
    switch (format) {
        case kMxint8: return choose<kMxint8>(args, (int)shape, stream);
        case kMxfp8: return choose<kMxfp8>(args, (int)shape, stream);
        case kMxfp4: return choose<kMxfp4>(args, (int)shape, stream);
        default: return choose<kNvfp4>(args, (int)shape, stream);
    }
}
