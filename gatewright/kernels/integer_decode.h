// y[1, N] = x[1, K] . w[N, K]^T for weights in MXINT8, MXFP4, NVFP4 or groups of integers, through the int8 tensor cores.
//
// The weights need no decoding, or nearly none: MXINT8 codes are int8 already, 16 times a nibble of two's complement is
// one mask away, and twice an E2M1 value is an integer of at most 12 that one byte permutation looks up. x is split, once a block of 32, into two digits of 8 bits in units of
// 2^-13 of the power of two below the block's largest magnitude (exact for elements within 2^-6 of it, and to 2^-14 of
// it for the rest); the digits are columns of the right operand. A block's dot product is exact in int32, and is scaled and
// added in float32. Infinities in x give NaN.
//
// All but MXINT8: a lane reads a whole block at once, and the eight columns are the two digits of the four blocks that a row's
// four lanes hold, zero for the other lanes' k: each lane then scales one block's sums.
//
// ROWGROUPS x KGROUPS warps share a block: the first split its rows, the second its part of K. The blocks
// of a cluster split K further; sums are added in a fixed order through (distributed) shared memory.
//
// The launch overlaps its predecessor's end. Weights that the caller promised not to write any more (`early`) are
// fetched before the wait on the predecessor, all else after it.
#pragma once
#include <cooperative_groups.h>

#include "group_code.h"

namespace {

template <int FORMAT>
struct Layout {
    static constexpr bool kGroups = FORMAT == kInt8 || FORMAT == kInt4;
    static constexpr bool kDiagonal = FORMAT != kMxint8;  // a lane has whole blocks
    static constexpr bool kNibbles = kDiagonal && FORMAT != kInt8;
    static constexpr int kChunk = kNibbles ? 256 : 128;  // k in 128 bytes of a row: whole lines
    static constexpr int kPerChunk = kChunk / 32;        // blocks of 32
    // Of a row in a chunk; groups' scales do not come through the queue.
    static constexpr int kScaleBytes = kGroups ? 0 : FORMAT == kNvfp4 ? 16 : kPerChunk;
    // What a unit of x counts in units of the elements.
    static constexpr float kUnit = FORMAT == kInt4 ? 0.0625f : kNibbles ? 0.5f : 1.0f;
};

// Eight lanes read 16 bytes of two rows together (of blocks of 32 bytes, every other piece), sixteen 8 bytes of four.
template <int FORMAT>
struct Swap {
    static __device__ __forceinline__ int of(int row) {
        return FORMAT == kMxint8 ? (row & 3) << 1 : FORMAT == kInt8 ? row & 1 : (row & 1) << 2;
    }
};
template <int FORMAT, int RING>
using Copies = Queue<Layout<FORMAT>::kScaleBytes, 1, RING, Swap<FORMAT>>;

// Twice an E2M1 value is the sum of two lookups, each of 4 nibbles in the low half of a word. A selector's top bit spreads the
// sign of the byte that it selects: the first gives a positive code's magnitude (plus 1 unless zero) and 0 for a
// negative one; the second, of inverted signs, a negative code's value and -1 (unless zero) for a positive one.
__constant__ const uint32_t kTables[4] = {0x04030200u, 0x0D090705u, 0xFDFEFF00u, 0xF4F8FAFCu};

// One instruction, where the compiler would compare and select.
__device__ __forceinline__ uint32_t larger(uint32_t a, uint32_t b) {
    uint32_t result;
    asm("max.u32 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

// Two E4M3 codes in float32: exact, NaN included.
__device__ __forceinline__ float2 e4m3_pair(uint32_t codes) {
    const uint32_t pair = e4m3_halves(codes);
    return __half22float2(*(const __half2*)&pair);
}

struct Arguments {
    const uint8_t* codes;
    const uint8_t* scales;
    const __nv_bfloat16* x;
    const __nv_bfloat16* bias;  // [N] or null
    __nv_bfloat16* y;
    int n, k, splits, activation, early;
    int group;  // of integers that share a scale
};

template <int FORMAT, int ROWGROUPS, int KGROUPS, int RING>
struct Shape {
    static constexpr int kWarps = ROWGROUPS * KGROUPS;
    static constexpr int kRows = 16 * ROWGROUPS;
    static constexpr int kRing = kWarps * RING * Copies<FORMAT, RING>::kSlot;
    static constexpr int kSumPitch = kRows + 1;
    static constexpr int kSums = (KGROUPS * kSumPitch * 4 + 15) / 16 * 16;
    static constexpr int kFront = kRing + 2 * kSums;  // the queues, then two buffers of sums, [kgroup][row of the weights]
};

// Scale `index` of four codes as float32 in the elements' unit; NaN codes give infinity, and are the caller's.
__device__ __forceinline__ float byte_scale(uint32_t four, int index) {
    const uint32_t bits = index == 3 ? four >> 1 : four << (23 - 8 * index);
    return __uint_as_float(max(bits & 0x7F800000u, 0x00400000u)) * 0.015625f;
}

// SCALE: the type of groups' scales.
template <int FORMAT, typename SCALE, int ROWGROUPS, int KGROUPS, int RING, int BLOCKS>
__global__ void __launch_bounds__(ROWGROUPS * KGROUPS * 32, BLOCKS) integer_decode(const Arguments args) {
    using L = Layout<FORMAT>;
    using S = Shape<FORMAT, ROWGROUPS, KGROUPS, RING>;
    constexpr bool kDiagonal = L::kDiagonal;
    constexpr int kSlot = Copies<FORMAT, RING>::kSlot;
    extern __shared__ __align__(128) uint8_t memory[];
    __shared__ __align__(16) uint8_t zeros[64];
    let_next_launch_begin();

    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int rowgroup = warp / KGROUPS, kgroup = warp % KGROUPS;
    const int row = lane >> 2, part = lane & 3;
    const int split = blockIdx.x, units = args.k / L::kChunk;
    const int begin = units * split / args.splits, chunks = units * (split + 1) / args.splits - begin;
    const int blocks = chunks * L::kPerChunk;
    uint8_t* const queue = memory + warp * (RING * kSlot);
    uint8_t* const digits = memory + S::kFront;             // [block][high, low][32]
    float* const x_units = (float*)(digits + blocks * 64);  // [block]
    const int count = (chunks - kgroup + KGROUPS - 1) / KGROUPS;
    int turns;  // of the block
    const Tiles tiles = share_tiles(args.n, blockIdx.y, gridDim.y, rowgroup, ROWGROUPS, turns);
    Copies<FORMAT, RING> copies(
        tiles, args.codes, args.scales, units, begin + kgroup, count, KGROUPS - 1, shared_address(queue));
    GroupScales<SCALE, L::kGroups ? L::kPerChunk / 4 : 0> group_scales(
        tiles, args.scales, args.k, args.group, begin + kgroup, count, KGROUPS);
    if (!args.early) wait_for_previous_launch();
#pragma unroll
    for (int i = 0; i < RING; ++i) copies.fetch(i);
    group_scales.fetch();
    if (kDiagonal && threadIdx.x < 16) ((uint32_t*)zeros)[threadIdx.x] = 0;
    wait_for_previous_launch();

    constexpr int kFirst = 4;  // turns whose loads come first
    const int quarters = blocks * 4;
    auto load = [&](int i) { return load_ordered((const uint4*)(args.x + (size_t)begin * L::kChunk) + i); };
    auto split_x = [&](int i, const uint4& raw) {
        const float unit = split_quarter<FORMAT == kInt4>(raw, digits + (i >> 2) * 64, i & 3);
        if ((i & 3) == 0) x_units[i >> 2] = unit * L::kUnit;
    };
    uint4 raw[kFirst];
#pragma unroll
    for (int j = 0; j < kFirst; ++j) {
        const int i = j * S::kWarps * 32 + threadIdx.x;
        if (i < quarters) raw[j] = load(i);
    }
#pragma unroll
    for (int j = 0; j < kFirst; ++j) {
        const int i = j * S::kWarps * 32 + threadIdx.x;
        if (i < quarters) split_x(i, raw[j]);
    }
    for (int i = kFirst * S::kWarps * 32 + threadIdx.x; i < quarters; i += S::kWarps * 32) split_x(i, load(i));
    __syncthreads();

    const uint8_t* const my_digits = digits + row * 32 + part * 8;
    // Only the lanes whose k are a column's block have digits for it.
    const bool diagonal = row >> 1 == part;
    const uint8_t* const first_block = diagonal ? digits + (kgroup * L::kPerChunk + part) * 64 + (row & 1) * 32 : zeros;
    const int block_step = diagonal ? 256 : 0, skip = diagonal ? (KGROUPS - 1) * L::kPerChunk * 64 : 0;
    // From memory, so that they stay in registers: a permutation takes one constant only.
    uint32_t table[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) table[j] = L::kNibbles && !L::kGroups ? ((const volatile uint32_t*)kTables)[j] : 0;
    const int nothing[4] = {};
    cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
    int slot = 0;
    for (int turn = 0; turn < turns; ++turn) {
        float sum[2] = {};
        uint32_t spoilt[2] = {};  // the largest of the scales' codes, or the top bits of bytes of ones among them
        const uint8_t* my_block = first_block;
        for (int i = 0; i < count && turn < tiles.turns; ++i) {
            wait_copies<RING - 1>();
            __syncwarp();  // lanes read what others copied
            const uint8_t* const stage = queue + slot * kSlot + row * 128;
            const uint8_t* const my_scales = queue + slot * kSlot + 2048 + row * L::kScaleBytes;
            const int base = (kgroup + i * KGROUPS) * L::kPerChunk;
            if constexpr (L::kGroups) {
                float scale[L::kPerChunk / 4][2];
                group_scales.take(scale);
                group_scales.fetch();
#pragma unroll
                for (int quad = 0; quad < L::kPerChunk / 4; ++quad) {
                    const int block = quad * 4 + part;
                    const uint4 digit[2] = {*(const uint4*)my_block, *(const uint4*)(my_block + 16)};
                    my_block += block_step;
                    const float unit = x_units[base + block];
                    int c[4];
#pragma unroll
                    for (int w = 0; w < 4; ++w) {
                        uint32_t a[4];
#pragma unroll
                        for (int half = 0; half < 2; ++half) {
                            const uint8_t* const line = stage + half * 1024;
                            if constexpr (L::kNibbles) {
                                const uint4 word = *(const uint4*)(line + (block ^ Swap<FORMAT>::of(row)) * 16);
                                split_nibbles((&word.x)[w], a[half], a[2 + half]);
                            } else {
                                const uint4 word = *(const uint4*)(line + (part * 2 + (w >> 1) ^ Swap<FORMAT>::of(row)) * 16);
                                a[half] = (&word.x)[(w & 1) * 2], a[2 + half] = (&word.x)[(w & 1) * 2 + 1];
                            }
                        }
                        const uint32_t b0 = (&digit[w >> 1].x)[(w & 1) * 2], b1 = (&digit[w >> 1].x)[(w & 1) * 2 + 1];
                        if (w == 0) mma(c, a, b0, b1, nothing);
                        else mma(c, a, b0, b1, c);
                    }
#pragma unroll
                    for (int half = 0; half < 2; ++half)
                        sum[half] = fmaf(join(c[half * 2], c[half * 2 + 1]), scale[quad][half] * unit, sum[half]);
                }
                my_block += skip;
            } else if constexpr (kDiagonal) {
#pragma unroll
                for (int quad = 0; quad < 2; ++quad) {
                    const int block = quad * 4 + part, piece = block ^ Swap<FORMAT>::of(row);
                    uint4 word[2], digit[2];
                    digit[0] = *(const uint4*)my_block;
                    digit[1] = *(const uint4*)(my_block + 16);
                    my_block += block_step;
                    float scale[2][2];
                    const float unit = x_units[base + block];
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        word[half] = *(const uint4*)(stage + half * 1024 + piece * 16);
                        const uint8_t* const place = my_scales + half * 8 * L::kScaleBytes;
                        if constexpr (FORMAT == kNvfp4) {
                            const float2 both = e4m3_pair(*(const uint16_t*)(place + block * 2));
                            scale[half][0] = both.x * unit, scale[half][1] = both.y * unit;
                        } else {
                            const uint32_t code = place[block];
                            spoilt[half] = max(spoilt[half], code);
                            scale[half][0] = __uint_as_float(larger(code << 23, 0x00400000u)) * unit;
                        }
                    }
                    int c[4];
#pragma unroll
                    for (int w = 0; w < 4; ++w) {
                        const uint32_t b0 = (&digit[w >> 1].x)[(w & 1) * 2], b1 = (&digit[w >> 1].x)[(w & 1) * 2 + 1];
                        uint32_t a[4], n[4];
#pragma unroll
                        for (int half = 0; half < 2; ++half) {
                            const uint32_t v = (&word[half].x)[w], inverse = v ^ 0x88888888u;
                            a[half] = permute(table[0], table[1], v), a[2 + half] = permute(table[0], table[1], v >> 16);
                            n[half] = permute(table[2], table[3], inverse);
                            n[2 + half] = permute(table[2], table[3], inverse >> 16);
                        }
                        const bool begins = w == 0 || (w == 2 && FORMAT == kNvfp4);
                        if (begins) mma(c, a, b0, b1, nothing);
                        else mma(c, a, b0, b1, c);
                        mma(c, n, b0, b1, c);
                        if (w == 3 || (w == 1 && FORMAT == kNvfp4)) {
#pragma unroll
                            for (int half = 0; half < 2; ++half) {
                                sum[half] = fmaf(join(c[half * 2], c[half * 2 + 1]), scale[half][FORMAT == kNvfp4 ? w >> 1 : 0],
                                                 sum[half]);
                            }
                        }
                    }
                }
                my_block += skip;
            } else {
                uint32_t four[2];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    four[half] = *(const uint32_t*)(my_scales + half * 8 * L::kScaleBytes);
                    spoilt[half] |= ((four[half] & 0x7F7F7F7Fu) + 0x01010101u) & four[half];
                }
#pragma unroll
                for (int b = 0; b < L::kPerChunk; ++b) {
                    const int block = base + b;
                    uint32_t a[4];
                    float scale[2];
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const int piece = (b * 2 + (part >> 1)) ^ Swap<FORMAT>::of(row);
                        const uint2 v = *(const uint2*)(stage + half * 1024 + piece * 16 + (part & 1) * 8);
                        a[half] = v.x, a[2 + half] = v.y;
                        scale[half] = byte_scale(four[half], b);
                    }
                    uint2 v = make_uint2(0, 0);
                    if (row < 2) v = *(const uint2*)(my_digits + block * 64);
                    int c[4];
                    mma(c, a, v.x, v.y, nothing);
                    const float unit = x_units[block];
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        sum[half] = fmaf(join(c[half * 2], c[half * 2 + 1]), scale[half] * unit, sum[half]);
                    }
                }
            }
            __syncwarp();  // all have read before the slot is filled again
            copies.fetch(slot);
            slot = slot == RING - 1 ? 0 : slot + 1;
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const bool nan = kDiagonal ? spoilt[half] == 255 : (spoilt[half] & 0x80808080u) != 0;
            if (nan) sum[half] = __uint_as_float(0x7FC00000u);
            if (kDiagonal) {
                sum[half] += __shfl_xor_sync(0xFFFFFFFFu, sum[half], 1);
                sum[half] += __shfl_xor_sync(0xFFFFFFFFu, sum[half], 2);
            }
        }

        // Column 0 of the results is in each row's first lane. Two buffers: a barrier separates a buffer's next use from the
        // reads of its last.
        float* const sums = (float*)(memory + S::kRing + (turn & 1) * S::kSums);
        if (part == 0) {
#pragma unroll
            for (int half = 0; half < 2; ++half) sums[kgroup * S::kSumPitch + rowgroup * 16 + row + half * 8] = sum[half];
        }
        __syncthreads();
        float total = 0.0f;
        if (threadIdx.x < S::kRows) {
#pragma unroll
            for (int g = 0; g < KGROUPS; ++g) total += sums[g * S::kSumPitch + threadIdx.x];
        }
        if (args.splits > 1) {
            if (threadIdx.x < S::kRows) sums[threadIdx.x] = total;
            cluster.sync();
            if (split == 0 && threadIdx.x < S::kRows) {
                total = 0.0f;
                for (int s = 0; s < args.splits; ++s) total += *cluster.map_shared_rank(sums + threadIdx.x, s);
            }
        }
        const int place = tiles.first - rowgroup + turn * ROWGROUPS + (int)(threadIdx.x >> 4);  // tile of this result
        if (split == 0 && threadIdx.x < S::kRows && place < tiles.end) {
            const int n = min(place * 16, args.n - 16) + (int)(threadIdx.x & 15);
            if (args.bias != nullptr) total += __bfloat162float(args.bias[n]);
            args.y[n] = __float2bfloat16(activate(total, args.activation));
        }
    }
    if (args.splits > 1) cluster.sync();  // the others read this block's sums
}

template <int FORMAT, typename SCALE, int ROWGROUPS, int KGROUPS, int RING, int BLOCKS>
int launch(const Arguments& args, int blocks, cudaStream_t stream) {
    using S = Shape<FORMAT, ROWGROUPS, KGROUPS, RING>;
    using L = Layout<FORMAT>;
    const int depth = (args.k / L::kChunk + args.splits - 1) / args.splits * L::kChunk;
    const dim3 grid(args.splits, blocks);
    return (int)launch_overlapping(integer_decode<FORMAT, SCALE, ROWGROUPS, KGROUPS, RING, BLOCKS>, args, grid,
                                   S::kWarps * 32, S::kFront + depth / 32 * 68, args.splits, stream);
}

}  // namespace
