// y[M, N] = x[M, K] . w[N, K]^T for M = 1 .. 16 and weights of 8 or 4 bits with a scale for each group of a row, for Hopper GPUs.
//
// One row of x: see `integer_decode.h`. More, or rows too long for it, below, through the same int8 tensor cores: x is split into two
// digits of 8 bits in units of 2^-13 of the power of two below the largest magnitude of its 128 k, or 32 where groups
// are no multiples of 128 (exact for elements within 2^-6 of it, and to 2^-14 of it for the rest). Dot products with both digits
// are exact in int32, and are scaled and added in float32.
//
// A warp keeps the digits of its 256 k of x in registers, eight rows' high ones as one right operand, their low ones as
// another, and goes down the rows of weights 16 at a time. The order of k is free: `ldmatrix` says which a lane has. The 8
// warps of a block have neighbouring k and add their sums in shared memory. Blocks that split K further leave float32 partial
// sums, which the last of them to finish adds in order, so that results do not vary.
//
// The launch overlaps its predecessor's end. Weights that the caller promised not to write any more (`early`) are
// fetched before the wait on the predecessor, all else after it.
#include "integer_decode.h"

namespace {

constexpr int kWarps = 8, kThreads = kWarps * 32;
constexpr int kSlice = 256;  // k to a warp
constexpr int kRing = 4;     // chunks of 16 rows of 128 bytes in a warp's queue
constexpr int kQueue = kRing * 2048;

struct RowsArguments {
    const uint8_t* codes;
    const void* scales;
    const __nv_bfloat16* x;
    const __nv_bfloat16* bias;  // [N] or null
    __nv_bfloat16* y;
    float* partial;  // [splits][16-row tiles][128 TILES], unless K is not split
    int* arrived;    // [shares of the rows], zero before and after
    int m, n, k, group, activation, early;
};

// Four matrices of 8 rows of 16 bytes: a lane receives bytes 4 (lane & 3) on of row lane >> 2 of each.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}

// Half as much as `load_ordered`.
__device__ __forceinline__ uint2 load_ordered_half(const void* pointer) {
    uint2 v;
    asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(pointer) : "memory");
    return v;
}

// Result `index` of a tile, in the order of the fragments: column (row of x) and row from `top`.
__device__ __forceinline__ void store(const RowsArguments& args, float value, int top, int index) {
    const int column = index / 128 * 8 + (index >> 2 & 3) * 2 + (index & 1);
    const int n = top + (index >> 4 & 7) + (index >> 1 & 1) * 8;
    if (column >= args.m) return;
    if (args.bias != nullptr) value += __bfloat162float(args.bias[n]);
    args.y[(size_t)column * args.n + n] = __float2bfloat16(activate(value, args.activation));
}

template <int TILES>
constexpr int shared_bytes() {
    return kWarps * (kQueue + TILES * 256) + 2 * kWarps * TILES * 512;
}

// TILES: 8-row tiles of x. WHOLE: 128 k have one scale.
template <int FORMAT, typename SCALE, int TILES, bool WHOLE>
__global__ void __launch_bounds__(kThreads, 2) rows_decode(const RowsArguments args) {
    using L = Layout<FORMAT>;
    constexpr int kParts = kSlice / L::kChunk;  // chunks of a slice
    constexpr int kUnits = WHOLE ? 2 : 8, kResults = 128 * TILES;
    extern __shared__ __align__(128) uint8_t memory[];
    let_next_launch_begin();

    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int row = lane >> 2, part = lane & 3;
    const uint32_t queue = shared_address(memory) + warp * kQueue;
    float* const units = (float*)(memory + kWarps * kQueue) + warp * (TILES * 64);  // [unit][TILES][row of x & 7]
    float* const sums = (float*)(memory + kWarps * (kQueue + TILES * 256));         // [2][warp][TILES][lane][4]
    const int slice = blockIdx.x * kWarps + warp;
    const bool works = slice < args.k / kSlice;
    const int all_tiles = (args.n + 15) / 16;
    const int first = (int)((long long)all_tiles * blockIdx.y / gridDim.y);
    const int tiles = (int)((long long)all_tiles * (blockIdx.y + 1) / gridDim.y) - first;
    // The last tile begins early enough to be whole.
    const auto top = [&](int tile) { return min((first + tile) * 16, args.n - 16); };

    // Eight lanes copy a row's line, four rows at a time, pieces swapped about so that rows of a matrix lie in different banks.
    const int stride = args.k / L::kChunk * 128;
    const uint8_t* const code = args.codes + (size_t)(lane >> 3) * stride + slice * (kParts * 128) + (lane & 7) * 16;
    const uint32_t target = queue + (lane >> 3) * 128 + ((lane & 7) ^ (lane >> 3)) * 16;
    const auto fetch = [&](int tile, int chunk, int slot) {
        if (works && tile < tiles) {
            const uint8_t* from = code + (size_t)top(tile) * stride + chunk * 128;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                copy16((target + slot * 2048 + j * 512) ^ (j & 1) * 64, from);
                from += stride * 4;
            }
        }
        commit();
    };
    // A lane has the scales of blocks `part` and 4 + `part` in rows `row` and `row` + 8, a tile ahead.
    const int groups = args.k / args.group;
    uint32_t place[2], raw_scales[2][2];
#pragma unroll
    for (int quad = 0; quad < 2; ++quad)
        place[quad] = row * groups + (slice * kSlice + quad * 128 + (WHOLE ? 0 : part * 32)) / args.group;
    const auto fetch_scales = [&](int tile) {
        if (works && tile < tiles) {
#pragma unroll
            for (int quad = 0; quad < 2; ++quad) {
                const SCALE* const from = (const SCALE*)args.scales + ((size_t)top(tile) * groups + place[quad]);
                raw_scales[quad][0] = load_scale(from);
                raw_scales[quad][1] = load_scale(from + groups * 8);
            }
        }
    };
    if (!args.early) wait_for_previous_launch();
#pragma unroll
    for (int i = 0; i < kRing; ++i) fetch(i / kParts, i % kParts, i);
    fetch_scales(0);
    wait_for_previous_launch();

    uint32_t b[TILES][8][2][2];  // [block of 32][digit]; rows past M repeat the last one, and are not stored
    if (works) {
        uint4 raw[2][8];
        const auto load = [&](int t) {
            const __nv_bfloat16* const source =
                args.x + (size_t)min(t * 8 + row, args.m - 1) * args.k + slice * kSlice + part * (L::kNibbles ? 8 : 4);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                if constexpr (L::kNibbles) {
                    raw[t & 1][i] = load_ordered(source + i * 32);
                } else {
                    const uint2 low = load_ordered_half(source + i * 32), high = load_ordered_half(source + i * 32 + 16);
                    raw[t & 1][i] = make_uint4(low.x, low.y, high.x, high.y);
                }
            }
        };
        load(0);
#pragma unroll
        for (int t = 0; t < TILES; ++t) {
            if (t + 1 < TILES) load(t + 1);
#pragma unroll
            for (int u = 0; u < kUnits; ++u) {
                constexpr int kBlocks = 8 / kUnits;
                uint32_t largest = 0;
#pragma unroll
                for (int i = 0; i < kBlocks; ++i) largest = max(largest, largest_magnitude(raw[t & 1][u * kBlocks + i]));
                largest = max(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, 1));
                largest = max(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, 2));
                const Scaling scale = scaling(largest);
                if (part == 0) units[(u * TILES + t) * 8 + row] = scale.unit * L::kUnit;
#pragma unroll
                for (int i = u * kBlocks; i < (u + 1) * kBlocks; ++i)
#pragma unroll
                    for (int j = 0; j < 2; ++j)
                        split_four<L::kNibbles>(raw[t & 1][i], j, scale.factor, b[t][i][0][j], b[t][i][1][j]);
            }
        }
    }
    __syncwarp();  // the units

    const uint32_t matrix = queue + (lane & 15) * 128 + ((lane >> 4) ^ (lane & 7)) * 16;
    for (int tile = 0; tile < tiles; ++tile) {
        float sum[TILES][4] = {};
        if (works) {
            float scale[2][2];
#pragma unroll
            for (int quad = 0; quad < 2; ++quad)
#pragma unroll
                for (int half = 0; half < 2; ++half) scale[quad][half] = widen<SCALE>(raw_scales[quad][half]);
            fetch_scales(tile + 1);
#pragma unroll
            for (int quad = 0; quad < 2; ++quad) {  // of the slice
                const int slot = (kParts == 2 ? tile * 2 + quad : tile) % kRing;
                const uint32_t here = matrix + slot * 2048;
                if (quad < kParts) {
                    wait_copies<kRing - 1>();
                    __syncwarp();  // lanes read what others copied
                }
                int c[TILES][2][4];
                uint32_t words[4];
#pragma unroll
                for (int w = 0; w < 4; ++w) {
                    uint32_t a[4];
                    if constexpr (L::kNibbles) {
                        if ((w & 1) == 0) load_matrices(words, here ^ (quad * 2 + w / 2) * 32);
#pragma unroll
                        for (int half = 0; half < 2; ++half) split_nibbles(words[(w & 1) * 2 + half], a[half], a[2 + half]);
                    } else {
                        load_matrices(a, here ^ w * 32);
                    }
                    const bool begins = w == 0 || !WHOLE, ends = w == 3 || !WHOLE;
                    const int nothing[4] = {};
#pragma unroll
                    for (int t = 0; t < TILES; ++t)
#pragma unroll
                        for (int digit = 0; digit < 2; ++digit) {
                            const uint32_t(&v)[2] = b[t][quad * 4 + w][digit];
                            if (begins) mma(c[t][digit], a, v[0], v[1], nothing);
                            else mma(c[t][digit], a, v[0], v[1], c[t][digit]);
                        }
                    if (!ends) continue;
                    float own[2];
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        own[half] = scale[quad][half];
                        if (!WHOLE) own[half] = __shfl_sync(0xFFFFFFFFu, own[half], (lane & 28) + w);
                    }
#pragma unroll
                    for (int t = 0; t < TILES; ++t) {
                        const float2 unit = *(const float2*)(units + ((WHOLE ? quad : quad * 4 + w) * TILES + t) * 8 + part * 2);
#pragma unroll
                        for (int j = 0; j < 4; ++j)
                            sum[t][j] = fmaf(join(c[t][0][j], c[t][1][j]), own[j >> 1] * (j & 1 ? unit.y : unit.x), sum[t][j]);
                    }
                }
                if (quad >= 2 - kParts) {
                    __syncwarp();  // all have read before the slot is filled again
                    fetch(tile + kRing / kParts, kParts == 2 ? quad : 0, slot);
                }
            }
        }
        // Two buffers: a barrier separates a buffer's next use from the reads of its last.
        float* const buffer = sums + (tile & 1) * (kWarps * kResults);
#pragma unroll
        for (int t = 0; t < TILES; ++t)
            *(float4*)(buffer + warp * kResults + t * 128 + lane * 4) = make_float4(sum[t][0], sum[t][1], sum[t][2], sum[t][3]);
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
    const int count = tiles * (kResults / 4);
    const auto add = [&](int i) {
        float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (i >= count) return total;
#pragma unroll 4
        for (int s = 0; s < gridDim.x; ++s) {
            const float4 v = __ldcg((const float4*)(args.partial + ((size_t)s * all_tiles + first) * kResults) + i);
            total.x += v.x, total.y += v.y, total.z += v.z, total.w += v.w;
        }
        return total;
    };
    float4 next = add(threadIdx.x);
#pragma unroll 1
    for (int i = threadIdx.x; i < count; i += kThreads) {
        float4 total = next;
        next = add(i + kThreads);
        const int tile = i / (kResults / 4), index = i % (kResults / 4) * 4;
#pragma unroll 1
        for (int j = 0; j < 4; ++j) {
            store(args, total.x, top(tile), index + j);
            total = make_float4(total.y, total.z, total.w, 0.0f);
        }
    }
}

template <int FORMAT, typename SCALE>
int choose_rows(const RowsArguments& args, int shares, cudaStream_t stream) {
    const dim3 grid((args.k / kSlice + kWarps - 1) / kWarps, shares);
    const bool whole = args.group % 128 == 0;
    if (args.m <= 8)
        return (int)launch_overlapping(whole ? rows_decode<FORMAT, SCALE, 1, true> : rows_decode<FORMAT, SCALE, 1, false>,
                                       args, grid, kThreads, shared_bytes<1>(), 1, stream);
    return (int)launch_overlapping(whole ? rows_decode<FORMAT, SCALE, 2, true> : rows_decode<FORMAT, SCALE, 2, false>, args,
                                   grid, kThreads, shared_bytes<2>(), 1, stream);
}

template <int FORMAT, typename SCALE>
int choose_row(const Arguments& args, int blocks, int tiles, int stages, cudaStream_t stream) {
    return args.scale_bytes > 0 ? choose<FORMAT, SCALE, true>(args, blocks, tiles, stages, stream)
                                : choose<FORMAT, SCALE, false>(args, blocks, tiles, stages, stream);
}

// Calls `take` with a value of the scales' type: bfloat16, float16, float32.
template <typename Take>
int with_scale_type(long long type, const Take& take) {
    if (type == 0) return take(__nv_bfloat16());
    if (type == 1) return take(__half());
    return take(float());
}

}  // namespace

// One row of x. `splits` (1, 2, 4 or 8) blocks of a cluster share K, a multiple of 128 (4 bits: 256) below 2^20, and `blocks` clusters
// N, at least 16. `group` is a multiple of 32. `scale_bytes`: of a row's scales in 128 (4 bits: 256) k, or 0 where those are no
// whole number of groups, or where they are 2 and K is no multiple of twice as many. `tiles`, `stages`: see `choose`. `early`: weights
// and scales may be read before the launch's predecessor ends, because nobody writes them. Returns a cudaError_t.
extern "C" int group_decode_row(
    const void* codes, const void* scales, const void* x, const void* bias, void* y, long long n, long long k,
    long long group, long long scale_bytes, long long splits, long long blocks, long long activation, long long bits,
    long long type, long long tiles, long long stages, long long early, cudaStream_t stream) {
    const Arguments args{
        (const uint8_t*)codes, (const uint8_t*)scales, (const __nv_bfloat16*)x, (const __nv_bfloat16*)bias,
        (__nv_bfloat16*)y, (int)n, (int)k, (int)splits, (int)activation, (int)early, (int)group, (int)scale_bytes};
    return with_scale_type(type, [&](auto scale) {
        using Scale = decltype(scale);
        return bits == 8 ? choose_row<kInt8, Scale>(args, (int)blocks, (int)tiles, (int)stages, stream)
                         : choose_row<kInt4, Scale>(args, (int)blocks, (int)tiles, (int)stages, stream);
    });
}

// K is a multiple of 256, `group` of 32, N at least 16. `partial` holds splits x 16-row tiles x 128 floats (256 for M > 8),
// where splits is K / 2048 rounded up; `arrived` a zero for each of the `shares` of the tiles. Otherwise as above.
extern "C" int group_decode_rows(
    const void* codes, const void* scales, const void* x, const void* bias, void* y, void* partial, void* arrived,
    long long m, long long n, long long k, long long group, long long shares, long long activation, long long bits,
    long long type, long long early, cudaStream_t stream) {
    const RowsArguments args{
        (const uint8_t*)codes, scales, (const __nv_bfloat16*)x, (const __nv_bfloat16*)bias, (__nv_bfloat16*)y,
        (float*)partial, (int*)arrived, (int)m, (int)n, (int)k, (int)group, (int)activation, (int)early};
    return with_scale_type(type, [&](auto scale) {
        using Scale = decltype(scale);
        return bits == 8 ? choose_rows<kInt8, Scale>(args, (int)shares, stream)
                         : choose_rows<kInt4, Scale>(args, (int)shares, stream);
    });
}
