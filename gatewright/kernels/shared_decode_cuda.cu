// y[M, N] = x[M, K] . w[N, K]^T for M = 1 or 2 and weights in a block format, for Hopper GPUs, through the fp16 tensor cores.
//
// A block keeps all of x in shared memory, as the tensor cores' right operand (`half_code.h`), so that K is not split over blocks
// and rows of the weights are read whole. The order of k inside a block of 32 is free: a lane's 8 elements are whatever k `ldmatrix`
// gives it. Four warps share 16 rows and take every fourth slice of 256 k; they add their sums in shared memory. Each has a
// queue of asynchronous copies. Blocks are as many as stand on the multiprocessors at a time, and share the rows evenly.
//
// The launch overlaps its predecessor's end. Of weights that the caller promised not to write any more (`early`) two
// chunks are fetched before the wait on the predecessor, all else after it, x before more of them.
#include "half_code.h"

namespace {

constexpr int kGroups = 4;  // of slices

struct Swap {  // rows of a matrix in different banks
    static __device__ __forceinline__ int of(int row) { return row & 7; }
};
template <int FORMAT, int RING>
using Copies = Queue<Layout<FORMAT>::kScaleBytes, Layout<FORMAT>::kParts, RING, Swap>;

// Four matrices of 8 rows of 16 bytes: a lane receives bytes 4 (lane & 3) on of row lane >> 2 of each.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}

struct Arguments {
    const uint8_t* codes;
    const uint8_t* scales;
    const __nv_bfloat16* x;
    const __nv_bfloat16* bias;  // [N] or null
    __nv_bfloat16* y;
    int m, n, k, activation, early;
};

template <int FORMAT, int RING, int WARPS>
int shared_bytes(const Arguments& args) {
    return WARPS * (RING * Copies<FORMAT, RING>::kSlot + Layout<FORMAT>::kDecoded + 512) +
           args.m * (args.k * 2 + args.k / kSlice * 4);
}

// RING: a queue's chunks. BLOCKS: blocks to a multiprocessor.
template <int FORMAT, int RING, int WARPS, int BLOCKS>
__global__ void __launch_bounds__(WARPS * 32, BLOCKS) shared_decode(const Arguments args) {
    using L = Layout<FORMAT>;
    constexpr int kSlot = Copies<FORMAT, RING>::kSlot;
    extern __shared__ __align__(128) uint8_t memory[];

    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = warp % kGroups;
    const int row = lane >> 2, part = lane & 3;
    uint8_t* const queue = memory + warp * (RING * kSlot);
    uint8_t* const decoded = memory + WARPS * RING * kSlot + warp * L::kDecoded;
    float* const sums = (float*)(memory + WARPS * (RING * kSlot + L::kDecoded));  // [warp][lane][4]
    uint8_t* const xs = (uint8_t*)(sums + WARPS * 128);                           // [block of 32][M][4][16]
    float* const units = (float*)(xs + args.m * args.k * 2);                      // [slice][M]

    const int slices = args.k / kSlice, count = (slices - group + kGroups - 1) / kGroups;
    int turns;  // of the block
    const Tiles tiles = share_tiles(args.n, blockIdx.x, gridDim.x, warp / kGroups, WARPS / kGroups, turns);
    prefetch_lines(args.x, (size_t)args.m * args.k * 2);
    Copies<FORMAT, RING> copies(
        tiles, args.codes, args.scales, args.k / L::kChunk, group * L::kParts, count * L::kParts,
        (kGroups - 1) * L::kParts, shared_address(queue));
    if (!args.early) wait_for_previous_launch();
    // More copies in flight would hold up x.
    const int ahead = args.early ? 2 : 1;
#pragma unroll
    for (int i = 0; i < RING; ++i)
        if (i < ahead) copies.fetch(i);
    wait_for_previous_launch();

    // A warp converts a row's slice at a time, a few of them together.
    constexpr int kTogether = 4;
    const int pairs = slices * args.m;
    for (int base = warp; base == warp || base < pairs; base += kTogether * WARPS) {
        uint4 raw[kTogether];
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            const int i = base + j * WARPS, slice = i / args.m, r = i - slice * args.m;
            if (i < pairs) raw[j] = load_ordered((const uint4*)(args.x + (size_t)r * args.k + slice * kSlice) + lane);
        }
        if (base == warp) {
#pragma unroll
            for (int i = 1; i < RING; ++i)
                if (i >= ahead) copies.fetch(i);
        }
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            const int i = base + j * WARPS, slice = i / args.m, r = i - slice * args.m;
            if (i >= pairs) break;
            const Scaling scale = scaling<FORMAT>(__reduce_max_sync(0xFFFFFFFFu, largest_magnitude(raw[j])));
            uint32_t b[4];
            convert<L::kNibbles>(raw[j], scale.factor, b);
            uint8_t* const to = xs + ((slice * 8 + row) * args.m + r) * 64;
            if (L::kNibbles) {
                *(uint4*)(to + part * 16) = make_uint4(b[0], b[1], b[2], b[3]);
            } else {  // a lane has elements 4 p on of both halves of the block
                uint8_t* const place = to + (part & 1) * 32 + (part >> 1) * 8;
                *(uint2*)place = make_uint2(b[0], b[1]);
                *(uint2*)(place + 16) = make_uint2(b[2], b[3]);
            }
            if (lane == 0) units[i] = scale.unit;
        }
    }
    let_next_launch_begin();  // not before: its copies would hold up x too
    __syncthreads();

    // Columns past M repeat the last row of x, and are not stored.
    const uint8_t* const mine = xs + min(row, args.m - 1) * 64 + part * 16;
    const uint32_t matrix = shared_address(queue) + (lane & 15) * 128 + ((lane >> 4) ^ (lane & 7)) * 16;
    int slot = 0;
    for (int turn = 0; turn < turns; ++turn) {
        float total[4] = {};
        for (int slice = group; slice < slices && turn < tiles.turns; slice += kGroups) {
            float sum[4] = {};
#pragma unroll
            for (int chunk = 0; chunk < L::kParts; ++chunk) {
                wait_copies<RING - 1>();
                __syncwarp();  // lanes read what others copied
                uint32_t words[4][4];
#pragma unroll
                for (int j = 0; j < 4; ++j) load_matrices(words[j], (matrix + slot * kSlot) ^ j * 32);
                decode_scales<FORMAT>(queue + slot * kSlot + 2048 + (lane >> 1) * L::kScaleBytes, decoded, lane);
                __syncwarp();
                const uint8_t* const here = mine + (slice * L::kParts + chunk) * L::kBlocks * (args.m * 64);
                float scales[2][4];
                uint32_t both[2][4];
#pragma unroll
                for (int k = 0; k < L::kBlocks; ++k) {
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        if (FORMAT == kNvfp4 && k == 0)
                            *(uint4*)both[half] = *(const uint4*)(decoded + (row + half * 8) * 32 + (part >> 1) * 16);
                        if (FORMAT != kNvfp4 && (k & 3) == 0)
                            *(float4*)scales[half] = *(const float4*)(decoded + ((row + half * 8) * L::kBlocks + k) * 4);
                    }
                    uint32_t a[2][4];
                    if constexpr (L::kNibbles) {
#pragma unroll
                        for (int half = 0; half < 2; ++half) {
                            uint32_t p[4];
                            decode_e2m1(words[k >> 1][(k & 1) * 2 + half], p);
                            if constexpr (FORMAT == kNvfp4) {
                                const uint32_t pair = permute(both[half][k >> 1], 0, k & 1 ? 0x3232 : 0x1010);
#pragma unroll
                                for (int j = 0; j < 4; ++j) p[j] = mul2(p[j], pair);
                            }
                            a[0][half] = p[0], a[0][2 + half] = p[1];
                            a[1][half] = p[2], a[1][2 + half] = p[3];
                        }
                    } else {
#pragma unroll
                        for (int i = 0; i < 4; ++i) {
                            uint32_t p[2];
                            if constexpr (FORMAT == kMxint8) decode_int8(words[k][i], p[0], p[1]);
                            else p[0] = e4m3_halves(words[k][i]), p[1] = e4m3_halves(words[k][i] >> 16);
                            a[i >> 1][i & 1] = p[0], a[i >> 1][2 + (i & 1)] = p[1];
                        }
                    }
                    const uint4 v = *(const uint4*)(here + k * (args.m * 64));
                    if constexpr (FORMAT == kNvfp4) {
                        mma(sum, a[0], v.x, v.y);
                        mma(sum, a[1], v.z, v.w);
                    } else {
                        float c[4] = {};
                        mma(c, a[0], v.x, v.y);
                        mma(c, a[1], v.z, v.w);
#pragma unroll
                        for (int j = 0; j < 4; ++j) sum[j] = fmaf(c[j], scales[j >> 1][k & 3], sum[j]);
                    }
                }
                __syncwarp();  // all have read before the slot is filled again
                copies.fetch(slot);
                slot = slot == RING - 1 ? 0 : slot + 1;
            }
#pragma unroll
            for (int j = 0; j < 4; ++j)
                total[j] = fmaf(sum[j], units[slice * args.m + min(part * 2 + (j & 1), args.m - 1)], total[j]);
        }

        if (turn > 0) __syncthreads();  // the last turn's sums have been read
        *(float4*)(sums + (warp * 32 + lane) * 4) = *(const float4*)total;
        __syncthreads();
        if (group > 0 || turn >= tiles.turns) continue;
#pragma unroll
        for (int g = 1; g < kGroups; ++g) {
            const float4 v = *(const float4*)(sums + ((warp + g) * 32 + lane) * 4);
            total[0] += v.x, total[1] += v.y, total[2] += v.z, total[3] += v.w;
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int column = part * 2 + (j & 1), n = tiles.top(turn) + row + (j >> 1) * 8;
            if (column >= args.m) continue;
            float value = total[j];
            if (args.bias != nullptr) value += __bfloat162float(args.bias[n]);
            args.y[(size_t)column * args.n + n] = __float2bfloat16(activate(value, args.activation));
        }
    }
    wait_copies<0>();
}

template <int FORMAT, int RING, int WARPS, int BLOCKS>
int launch(const Arguments& args, int blocks, cudaStream_t stream) {
    return (int)launch_overlapping(
        shared_decode<FORMAT, RING, WARPS, BLOCKS>, args, dim3(blocks), WARPS * 32, shared_bytes<FORMAT, RING, WARPS>(args), 1,
        stream);
}

template <int FORMAT>
int choose(const Arguments& args, int blocks, int shape, cudaStream_t stream) {
    switch (shape) {
        case 0: return launch<FORMAT, 3, 8, 2>(args, blocks, stream);
        case 1: return launch<FORMAT, 4, 8, 2>(args, blocks, stream);
        default: return launch<FORMAT, 4, 16, 1>(args, blocks, stream);
    }
}

}  // namespace

// K is a multiple of 256, M is 1 or 2, N at least 16. `early`: weights and scales may be read before the launch's predecessor ends,
// because nobody writes them. Returns a cudaError_t.
extern "C" int shared_decode_product(
    const void* codes, const void* scales, const void* x, const void* bias, void* y, long long m, long long n, long long k,
    long long blocks, long long activation, long long format, long long shape, long long early, cudaStream_t stream) {
    const Arguments args{
        (const uint8_t*)codes, (const uint8_t*)scales, (const __nv_bfloat16*)x, (const __nv_bfloat16*)bias,
        (__nv_bfloat16*)y, (int)m, (int)n, (int)k, (int)activation, (int)early};
    switch (format) {
        case kMxint8: return choose<kMxint8>(args, (int)blocks, (int)shape, stream);
        case kMxfp8: return choose<kMxfp8>(args, (int)blocks, (int)shape, stream);
        case kMxfp4: return choose<kMxfp4>(args, (int)blocks, (int)shape, stream);
        default: return choose<kNvfp4>(args, (int)blocks, (int)shape, stream);
    }
}
