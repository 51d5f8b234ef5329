// y[1, N] = x[1, K] . w[N, K]^T for weights in MXINT8 or in groups of integers of 8 or 4 bits, through the int8 tensor cores.
//
// The weights need no decoding, or nearly none: 16 times a nibble of two's complement is one mask away. x is split into two
// digits of 8 bits for every block of 32 (`group_code.h`). A lane reads a whole block of weights at once, and the eight columns of
// the right operand are the two digits of the four blocks that a row's four lanes hold, zero for the other lanes' k: each
// lane then scales one block's sums. A block's dot product is exact in int32, and is scaled and added in float32. Infinities in x
// give NaN.
//
// The warps of a block share its part of K, chunk by chunk, and each converts the k of x that it multiplies itself: no warp waits for
// another before a tile's end. The blocks of a cluster split K further; sums are added in a fixed order through (distributed)
// shared memory.
//
// The launch overlaps its predecessor's end. Weights that the caller promised not to write any more (`early`) are
// fetched before the wait on the predecessor, all else after it: one chunk, then x, which more chunks in flight would hold up. The
// launch after this one may begin when x is there.
#pragma once
#include <cooperative_groups.h>

#include "group_code.h"

namespace {

template <int FORMAT>
struct Layout {
    static constexpr bool kNibbles = FORMAT == kInt4;
    static constexpr int kChunk = kNibbles ? 256 : 128;  // k in 128 bytes of a row: whole lines
    static constexpr int kPerChunk = kChunk / 32;        // blocks of 32
    static constexpr int kQuads = kPerChunk / 4;
    // What a unit of x counts in units of the elements.
    static constexpr float kUnit = FORMAT == kInt4 ? 0.0625f : FORMAT == kMxint8 ? 0.015625f : 1.0f;
    // Pieces of 16 bytes are swapped about by their rows: eight lanes read pieces of two rows together, of bytes every other one.
    static __device__ __forceinline__ int swap(int row) { return kNibbles ? (row & 1) << 2 : row & 1; }
};

struct Arguments {
    const uint8_t* codes;
    const uint8_t* scales;
    const __nv_bfloat16* x;
    const __nv_bfloat16* bias;  // [N] or null
    __nv_bfloat16* y;
    int n, k, splits, activation, early;
    int group;        // of elements that share a scale
    int scale_bytes;  // of a row in a chunk, a power of two from 2 to 32, where they are copied with the codes
};

// A block's shared memory: the warps' queues of codes, those of scales, two buffers of sums, [warp][row], and the digits of x.
// A stage of a queue is a chunk of each of TILES tiles of 16 rows.
template <int FORMAT, bool COPIED, int TILES, int RING>
struct Shape {
    static constexpr int kWarps = 8;
    static constexpr int kBlocks = 2;  // to a multiprocessor
    static constexpr int kRows = 16 * TILES;
    static constexpr int kCodes = kRows * 128;  // a stage
    static constexpr int kScalesAt = kWarps * RING * kCodes;
    static constexpr int kSumPitch = kRows + 1;
    static constexpr int kSums = (kWarps * kSumPitch * 4 + 15) / 16 * 16;

    // Bytes that a row's scales take in a stage: no less than the least copy.
    static __host__ __device__ __forceinline__ int scales(const Arguments& args) {
        if (FORMAT == kMxint8) return 4;
        return !COPIED ? 0 : args.scale_bytes < 4 ? 4 : args.scale_bytes;
    }
    static __host__ __device__ __forceinline__ int sums_at(const Arguments& args) {
        return kScalesAt + kWarps * RING * kRows * scales(args);
    }
};

// A block's tiles of 16 rows of the weights, TILES a turn: from tile `first`, below `end`. The last one begins early enough to be whole.
template <int TILES>
struct Turns {
    int first, end, turns, rows;

    __device__ __forceinline__ Turns(int n, int block, int blocks) : rows(n) {
        const int tiles = (n + 15) / 16;
        first = (int)((long long)tiles * block / blocks), end = (int)((long long)tiles * (block + 1) / blocks);
        turns = (end - first + TILES - 1) / TILES;
    }
    __device__ __forceinline__ int top(int turn, int tile) const { return min((first + turn * TILES + tile) * 16, rows - 16); }
};

// A warp's queue of asynchronous copies: of every tile of a turn `count` chunks, `step` chunks apart. Eight lanes copy a row's line of
// codes, four rows at a time, and each lane one row's scales, if COPIED.
template <int FORMAT, bool COPIED, int TILES, int RING>
struct Chunks {
    using L = Layout<FORMAT>;
    using S = Shape<FORMAT, COPIED, TILES, RING>;
    const uint8_t *codes, *scales;       // this lane's, in row 0
    const uint8_t *code[TILES], *scale;  // this lane's next
    uint32_t target, scale_target;
    int units;        // chunks in a row of the weights
    int scale_bytes;  // of a row in a chunk, and in a stage:
    int scale_room;
    int count, step, left, turn, live;
    Turns<TILES> tiles;

    __device__ __forceinline__ Chunks(
        const Arguments& args, const Turns<TILES>& share, int first, int taken, int each, uint32_t queue, uint32_t scale_queue)
        : units(args.k / L::kChunk), scale_bytes(FORMAT == kMxint8 ? 4 : args.scale_bytes), scale_room(S::scales(args)),
          count(taken), step(each), left(0), turn(0), live(0), tiles(share) {
        const int lane = threadIdx.x & 31;
        codes = args.codes + ((size_t)(lane >> 3) * units + first) * 128 + (lane & 7) * 16;
        // Two bytes come with their neighbours: all rows have them at even places, or all at odd ones.
        scales = (const uint8_t*)((size_t)(args.scales + ((size_t)(lane & 15) * units + first) * scale_bytes) & ~(size_t)3);
        target = queue + (lane >> 3) * 128;
        scale_target = scale_queue + lane * scale_room;
        if (count == 0) tiles.turns = 0;
    }

    __device__ __forceinline__ void fetch(int slot) {
        const int lane = threadIdx.x & 31;
        if (left == 0 && turn < tiles.turns) {
#pragma unroll
            for (int t = 0; t < TILES; ++t) code[t] = codes + (size_t)tiles.top(turn, t) * units * 128;
            if (COPIED) scale = scales + (size_t)tiles.top(turn, lane >> 4 & TILES - 1) * units * scale_bytes;
            live = tiles.end - tiles.first - turn * TILES;
            left = count;
            ++turn;
        }
        if (left > 0) {
            --left;
#pragma unroll
            for (int t = 0; t < TILES; ++t) {
                if (t == 0 || t < live) {
#pragma unroll
                    for (int j = 0; j < 4; ++j)
                        copy16(target + (slot * TILES + t) * 2048 + j * 512 + ((lane & 7) ^ L::swap(j * 4 + (lane >> 3))) * 16,
                               code[t] + (size_t)(j * 4 * units) * 128);
                }
                code[t] += (size_t)step * 128;
            }
            if constexpr (COPIED) {
                if (lane < S::kRows) copy_scales(scale_target + slot * (S::kRows * scale_room));
                scale += step * scale_bytes;
            }
        }
        commit();
    }

    __device__ __forceinline__ void copy_scales(uint32_t to) const {
        if (scale_room == 4) {
            copy_small<4>(to, scale);
        } else if (scale_room == 8) {
            copy_small<8>(to, scale);
        } else {
            copy_small<16>(to, scale);
            if (scale_room == 32) copy_small<16>(to + 16, scale + 16);
        }
    }
};

// The scales of groups that chunks do not consist of, in the order of the queue, loaded a chunk ahead into registers. A lane has those
// of blocks of 32 `part`, `part` + 4 ... of a chunk in rows `row` and `row` + 8 of a tile. Groups are multiples of 32.
template <int FORMAT, typename SCALE, int TILES>
struct LoadedScales {
    using L = Layout<FORMAT>;
    uint32_t raw[TILES][L::kQuads][2];
    const SCALE* scales;       // of this lane's first row
    const SCALE* line[TILES];  // the same in the tiles of the next chunk
    uint32_t inverse;          // of a group's blocks, x 2^31, rounded up: exact while K is below 2^20
    int block, first, step;    // in half blocks: the upper word of a product with the inverse is the group
    int groups, count, left, turn;
    Turns<TILES> tiles;

    __device__ __forceinline__ LoadedScales(
        const Arguments& args, const Turns<TILES>& share, int first_chunk, int taken, int each)
        : step(each * L::kPerChunk * 2), groups(args.k / args.group), count(taken), left(0), turn(0), tiles(share) {
        const int lane = threadIdx.x & 31, blocks = args.group / 32;
        inverse = (0x80000000u + blocks - 1) / blocks;
        first = (first_chunk * L::kPerChunk + (lane & 3)) * 2;
        scales = (const SCALE*)args.scales + (size_t)(lane >> 2) * groups;
        if (count == 0) tiles.turns = 0;
    }

    __device__ __forceinline__ void fetch() {
        if (left == 0 && turn < tiles.turns) {
#pragma unroll
            for (int t = 0; t < TILES; ++t) line[t] = scales + (size_t)tiles.top(turn, t) * groups;
            left = count;
            block = first;
            ++turn;
        }
        if (left > 0) {
            --left;
#pragma unroll
            for (int quad = 0; quad < L::kQuads; ++quad) {
                const uint32_t place = __umulhi(block + quad * 8, inverse);
#pragma unroll
                for (int t = 0; t < TILES; ++t) {
                    raw[t][quad][0] = load_scale(line[t] + place);
                    raw[t][quad][1] = load_scale(line[t] + groups * 8 + place);
                }
            }
            block += step;
        }
    }
};

// A scale as float32; MXINT8's NaN as infinity.
template <typename SCALE>
__device__ __forceinline__ float read_scale(const uint8_t* place) {
    if constexpr (sizeof(SCALE) == 1) {
        uint32_t bits;  // one instruction, where the compiler would compare and select
        asm("max.u32 %0, %1, %2;" : "=r"(bits) : "r"((uint32_t)*place << 23), "r"(0x00400000u));
        return __uint_as_float(bits);
    } else if constexpr (sizeof(SCALE) == 2) {
        return widen<SCALE>(*(const uint16_t*)place);
    } else {
        return widen<SCALE>(*(const uint32_t*)place);
    }
}

// SCALE: the scales' type. COPIED: they come to shared memory with the codes, being a power of two of bytes for a chunk of a row.
template <int FORMAT, typename SCALE, bool COPIED, int TILES, int RING>
__global__ void __launch_bounds__(Shape<FORMAT, COPIED, TILES, RING>::kWarps * 32, Shape<FORMAT, COPIED, TILES, RING>::kBlocks)
    integer_decode(const Arguments args) {
    using L = Layout<FORMAT>;
    using S = Shape<FORMAT, COPIED, TILES, RING>;
    constexpr int kEach = S::kWarps;  // from a warp's chunk to its next
    extern __shared__ __align__(128) uint8_t memory[];
    __shared__ __align__(16) uint8_t zeros[64];

    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int row = lane >> 2, part = lane & 3;
    const int split = blockIdx.x, units = args.k / L::kChunk;
    const int begin = units * split / args.splits, chunks = units * (split + 1) / args.splits - begin;
    const int count = (chunks - warp + kEach - 1) / kEach;
    const int scale_room = S::scales(args);
    uint8_t* const queue = memory + warp * (RING * S::kCodes);
    uint8_t* const scale_queue = memory + S::kScalesAt + warp * (RING * S::kRows) * scale_room;
    uint8_t* const digits = memory + S::sums_at(args) + 2 * S::kSums;      // [block][high, low][32]
    float* const x_units = (float*)(digits + chunks * L::kPerChunk * 64);  // [block]
    const Turns<TILES> tiles(args.n, blockIdx.y, gridDim.y);
    Chunks<FORMAT, COPIED, TILES, RING> copies(
        args, tiles, begin + warp, count, kEach, shared_address(queue), shared_address(scale_queue));
    LoadedScales<FORMAT, SCALE, TILES> loads(args, tiles, begin + warp, count, kEach);
    if (!args.early) wait_for_previous_launch();
    copies.fetch(0);
    if (!COPIED) loads.fetch();
    if (threadIdx.x < 16) ((uint32_t*)zeros)[threadIdx.x] = 0;
    __syncthreads();  // zeros
    wait_for_previous_launch();

    constexpr int kQuarters = L::kChunk / 8;  // of blocks, in a chunk
    constexpr int kTogether = 4;              // loads in flight
    const uint4* const x = (const uint4*)(args.x + (size_t)(begin + warp) * L::kChunk);
    for (int i = lane; i - lane < count * kQuarters; i += kTogether * 32) {
        uint4 raw[kTogether];
        int place[kTogether];  // a quarter's, past the warp's first chunk
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            const int quarter = i + j * 32;
            place[j] = quarter / kQuarters * (kEach * kQuarters) + quarter % kQuarters;
            if (quarter < count * kQuarters) raw[j] = load_ordered(x + place[j]);
        }
        if (i == lane) {
#pragma unroll
            for (int stage = 1; stage < RING; ++stage) copies.fetch(stage);
        }
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            if (i + j * 32 < count * kQuarters) {
                const int block = warp * L::kPerChunk + (place[j] >> 2);
                const float unit = split_quarter<L::kNibbles>(raw[j], digits + block * 64, lane & 3);
                if ((lane & 3) == 0) x_units[block] = unit * L::kUnit;
            }
        }
    }
    let_next_launch_begin();
    __syncwarp();

    // Only the lanes whose k are a column's block have digits for it.
    const bool diagonal = row >> 1 == part;
    const uint8_t* const first_block = diagonal ? digits + (warp * L::kPerChunk + part) * 64 + (row & 1) * 32 : zeros;
    const int block_step = diagonal ? 256 : 0, skip = diagonal ? (kEach - 1) * L::kPerChunk * 64 : 0;
    // A lane's block in a row's line: a piece, another 64 bytes away in the next quad, or two neighbours.
    const int piece = ((L::kNibbles ? part : part * 2) ^ L::swap(row)) * 16;
    const uint8_t* const first_piece = queue + row * 128 + piece;
    const int other = (piece ^ (L::kNibbles ? 64 : 16)) - piece;
    const uint8_t* my_scales[L::kQuads];
#pragma unroll
    for (int quad = 0; quad < L::kQuads; ++quad) {
        const int place = (quad * 4 + part) * 32 / args.group * (int)sizeof(SCALE);
        const bool second = sizeof(SCALE) == 2 && args.scale_bytes == 2 && ((begin + warp) & 1) != 0;  // of two neighbours
        my_scales[quad] = scale_queue + row * scale_room + place + (second ? 2 : 0);
    }
    const int nothing[4] = {};
    cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
    int slot = 0;
    for (int turn = 0; turn < tiles.turns; ++turn) {
        float sum[TILES][2] = {};
        const uint8_t* my_block = first_block;
        const float* my_unit = x_units + warp * L::kPerChunk + part;
        for (int i = 0; i < count; ++i) {
            wait_copies<RING - 1>();
            __syncwarp();  // lanes read what others copied
            float scale[L::kQuads][TILES][2];
#pragma unroll
            for (int quad = 0; quad < L::kQuads; ++quad)
#pragma unroll
                for (int t = 0; t < TILES; ++t)
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const int place = slot * S::kRows + t * 16 + half * 8;
                        if constexpr (COPIED) scale[quad][t][half] = read_scale<SCALE>(my_scales[quad] + place * scale_room);
                        else scale[quad][t][half] = widen<SCALE>(loads.raw[t][quad][half]);
                    }
            if (!COPIED) loads.fetch();
            const uint8_t* const stage = first_piece + slot * S::kCodes;
#pragma unroll
            for (int quad = 0; quad < L::kQuads; ++quad) {
                const uint4 digit[2] = {*(const uint4*)my_block, *(const uint4*)(my_block + 16)};
                my_block += block_step;
                const float unit = my_unit[quad * 4];
#pragma unroll
                for (int t = 0; t < TILES; ++t) {
                    uint4 word[2][2];  // [half][piece]
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const uint8_t* const line = stage + t * 2048 + half * 1024;
                        word[half][0] = *(const uint4*)(line + (quad == 0 ? 0 : other));
                        if (!L::kNibbles) word[half][1] = *(const uint4*)(line + other);
                    }
                    int c[4];
#pragma unroll
                    for (int w = 0; w < 4; ++w) {
                        const uint32_t b0 = (&digit[w >> 1].x)[(w & 1) * 2], b1 = (&digit[w >> 1].x)[(w & 1) * 2 + 1];
                        uint32_t a[4];
#pragma unroll
                        for (int half = 0; half < 2; ++half) {
                            if constexpr (L::kNibbles) {
                                split_nibbles((&word[half][0].x)[w], a[half], a[2 + half]);
                            } else {
                                const uint4& v = word[half][w >> 1];
                                a[half] = (&v.x)[(w & 1) * 2], a[2 + half] = (&v.x)[(w & 1) * 2 + 1];
                            }
                        }
                        if (w == 0) mma(c, a, b0, b1, nothing);
                        else mma(c, a, b0, b1, c);
                    }
#pragma unroll
                    for (int half = 0; half < 2; ++half)
                        sum[t][half] = fmaf(join(c[half * 2], c[half * 2 + 1]), scale[quad][t][half] * unit, sum[t][half]);
                }
            }
            my_block += skip;
            my_unit += kEach * L::kPerChunk;
            __syncwarp();  // all have read before the slot is filled again
            copies.fetch(slot);
            slot = slot == RING - 1 ? 0 : slot + 1;
        }
#pragma unroll
        for (int t = 0; t < TILES; ++t)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                sum[t][half] += __shfl_xor_sync(0xFFFFFFFFu, sum[t][half], 1);
                sum[t][half] += __shfl_xor_sync(0xFFFFFFFFu, sum[t][half], 2);
            }

        // Two buffers: a barrier separates a buffer's next use from the reads of its last.
        float* const sums = (float*)(memory + S::sums_at(args) + (turn & 1) * S::kSums);
        if (part == 0) {
#pragma unroll
            for (int half = 0; half < TILES * 2; ++half) sums[warp * S::kSumPitch + row + half * 8] = sum[half >> 1][half & 1];
        }
        __syncthreads();
        float total = 0.0f;
        if (threadIdx.x < S::kRows) {
#pragma unroll
            for (int w = 0; w < S::kWarps; ++w) total += sums[w * S::kSumPitch + threadIdx.x];
        }
        if (args.splits > 1) {
            if (threadIdx.x < S::kRows) sums[threadIdx.x] = total;
            cluster.sync();
            if (split == 0 && threadIdx.x < S::kRows) {
                total = 0.0f;
                for (int s = 0; s < args.splits; ++s) total += *cluster.map_shared_rank(sums + threadIdx.x, s);
            }
        }
        const int tile = (int)(threadIdx.x >> 4);  // of this result
        if (split == 0 && threadIdx.x < S::kRows && tiles.first + turn * TILES + tile < tiles.end) {
            const int n = tiles.top(turn, tile) + (int)(threadIdx.x & 15);
            if (FORMAT == kMxint8 && !isfinite(total)) {  // the only results that a scale of NaN, taken for infinity, can have
                for (int i = 0; i < args.k / 32; ++i)
                    if (args.scales[(size_t)n * (args.k / 32) + i] == 255) total = __uint_as_float(0x7FC00000u);
            }
            if (args.bias != nullptr) total += __bfloat162float(args.bias[n]);
            args.y[n] = __float2bfloat16(activate(total, args.activation));
        }
    }
    if (args.splits > 1) cluster.sync();  // the others read this block's sums
}

template <int FORMAT, typename SCALE, bool COPIED, int TILES, int RING>
int launch(const Arguments& args, int blocks, cudaStream_t stream) {
    using S = Shape<FORMAT, COPIED, TILES, RING>;
    using L = Layout<FORMAT>;
    const int depth = (args.k / L::kChunk + args.splits - 1) / args.splits * L::kChunk;
    return (int)launch_overlapping(integer_decode<FORMAT, SCALE, COPIED, TILES, RING>, args, dim3(args.splits, blocks),
                                   S::kWarps * 32, S::sums_at(args) + 2 * S::kSums + depth / 32 * 68, args.splits, stream);
}

// Two tiles at a time in queues of two stages or, where scales come with the codes, three, or one in queues of three.
template <int FORMAT, typename SCALE, bool COPIED>
int choose(const Arguments& args, int blocks, int tiles, int stages, cudaStream_t stream) {
    if (tiles == 1) return launch<FORMAT, SCALE, COPIED, 1, 3>(args, blocks, stream);
    if constexpr (COPIED) {
        if (stages == 3) return launch<FORMAT, SCALE, COPIED, 2, 3>(args, blocks, stream);
    }
    return launch<FORMAT, SCALE, COPIED, 2, 2>(args, blocks, stream);
}

}  // namespace
