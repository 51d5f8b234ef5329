// y[1, N] = x[1, K] . w[N, K]^T for weights in MXFP4 or NVFP4, for Hopper GPUs, through the int8 tensor cores.
//
// Twice an E2M1 value is an integer of at most 12 that byte permutations look up. x is two digits of 8 bits a block of 32
// (`group_code.h`). A lane reads a whole block of weights at once, and the eight columns of the right operand are the two digits of
// the four blocks that a row's four lanes hold, zero for the other lanes' k: each lane then scales one block's sums. A block's
// dot product is exact in int32, and is scaled and added in float32.
//
// The copy engine brings the weights as boxes of 16 TILES rows by 256 k, and the scales of 512 k at a time: each of a block's
// eight warps takes every eighth pair of boxes of its rows, has a queue of two, and converts the x that it alone needs. The
// warps' sums are added in a fixed order in shared memory. Bytes need no decoding and have a kernel of their own
// (`integer_decode.h`), whose lanes copy: boxes were slower there (MXINT8 17.9 us instead of 17.1).
//
// The launch overlaps its predecessor's end. Weights that the caller promised not to write any more (`early`) are
// fetched before the wait on the predecessor, all else after it: one box, then x, which more boxes in flight would hold up.
#include "box_code.h"
#include "group_code.h"

namespace {

constexpr int kWarps = 8, kThreads = kWarps * 32;
constexpr int kTogether = 2;  // blocks to a multiprocessor
constexpr int kPair = 512;    // k of two boxes
constexpr int kBox = 128;     // bytes of a box's row

// Twice an E2M1 value is the sum of two lookups, each of 4 nibbles in the low half of a word. A selector's top bit spreads the
// sign of the byte that it selects: the first gives a positive code's magnitude (plus 1 unless zero) and 0 for a
// negative one; the second, of inverted signs, a negative code's value and -1 (unless zero) for a positive one.
__constant__ const uint32_t kTables[4] = {0x04030200u, 0x0D090705u, 0xFDFEFF00u, 0xF4F8FAFCu};

struct Arguments {
    CUtensorMap codes, scales;
    const uint8_t* all_scales;
    const __nv_bfloat16* x;
    const __nv_bfloat16* bias;  // [N] or null
    __nv_bfloat16* y;
    int n, k, activation, early;
    int each, more;  // tiles of a block; the first `more` blocks have one more
};

template <int FORMAT, int TILES>
struct Shape {
    static constexpr int kRows = TILES * 16;
    static constexpr int kCodes = kRows * kBox;                         // a box
    static constexpr int kScaleRow = FORMAT == kNvfp4 ? 32 : 16;        // of a pair
    static constexpr int kScales = kRows * kScaleRow;
    static constexpr int kScalesAt = kWarps * 2 * kCodes;
    static constexpr int kSumsAt = kScalesAt + kWarps * 2 * kScales;
    static constexpr int kSums = kWarps * (kRows + 1) * 4;              // one of two buffers, [warp][row]
    static constexpr int kBarriersAt = kSumsAt + 2 * kSums;
    static constexpr int kZerosAt = kBarriersAt + kWarps * 16;
    static constexpr int kDigitsAt = kZerosAt + 64;                     // [block of 32][high, low][32], then [block] units
};

// The power of two of a code in float32; NaN (255) gives infinity.
__device__ __forceinline__ float scale_of(uint32_t code) {
    uint32_t bits;  // one instruction, where the compiler would compare and select
    asm("max.u32 %0, %1, %2;" : "=r"(bits) : "r"(code << 23), "r"(0x00400000u));
    return __uint_as_float(bits);
}
// Whether one of a row's scales, a multiple of 16 of them, is NaN.
__device__ __forceinline__ bool has_nan(const uint8_t* scales, int count) {
    for (int i = 0; i < count; i += 16) {
        const uint4 v = *(const uint4*)(scales + i);
        if (__vcmpeq4(v.x, ~0u) | __vcmpeq4(v.y, ~0u) | __vcmpeq4(v.z, ~0u) | __vcmpeq4(v.w, ~0u)) return true;
    }
    return false;
}
// Two E4M3 codes in float32: exact, NaN included.
__device__ __forceinline__ float2 scales_of(uint32_t codes) {
    const uint32_t pair = e4m3_halves(codes);
    return __half22float2(*(const __half2*)&pair);
}

__device__ __forceinline__ bool elected() {
    uint32_t mine;
    asm volatile("{.reg .pred mine;\n elect.sync _|mine, 0xFFFFFFFF;\n selp.u32 %0, 1, 0, mine;\n}" : "=r"(mine));
    return mine != 0;
}

template <int FORMAT, int TILES>
__global__ void __launch_bounds__(kThreads, kTogether) fp4_decode(const __grid_constant__ Arguments args) {
    using S = Shape<FORMAT, TILES>;
    extern __shared__ __align__(1024) uint8_t memory[];
    if (threadIdx.x == 0) prefetch_map(args.codes), prefetch_map(args.scales);
    const int lane = threadIdx.x & 31, warp = __shfl_sync(0xFFFFFFFFu, threadIdx.x >> 5, 0);
    const int row = lane >> 2, part = lane & 3;
    const int pairs = args.k / kPair;
    const int block = blockIdx.x;
    const int first_tile = block * args.each + min(block, args.more), tiles = args.each + (block < args.more);
    const int count = (pairs - warp + kWarps - 1) / kWarps;

    const uint32_t at = shared_address(memory);
    const uint32_t codes_at = at + warp * 2 * S::kCodes, scales_at = at + S::kScalesAt + warp * 2 * S::kScales;
    const uint32_t barriers = at + S::kBarriersAt + warp * 16;
    uint8_t* const digits = memory + S::kDigitsAt;
    float* const units = (float*)(digits + pairs * (kPair * 2));

    // The next pair of boxes to fetch.
    int left = tiles * count, next_pair = warp, next_row = first_tile * S::kRows;
    uint32_t scale_slot = 0;
    auto fetch = [&](int box) {
        if (left > 0) {
            if (elected()) {
                const uint32_t barrier = barriers + box * 8;
                expect(barrier, S::kCodes + (box == 0 ? S::kScales : 0));
                copy_box(codes_at + box * S::kCodes, args.codes, next_pair * (2 * kBox) + box * kBox, next_row, barrier);
                if (box == 0) copy_box(scales_at + scale_slot, args.scales, next_pair * S::kScaleRow, next_row, barrier);
            }
            if (box == 1) {
                --left;
                scale_slot ^= S::kScales;
                next_pair += kWarps;
                if (next_pair >= pairs) next_pair = warp, next_row += S::kRows;
            }
        }
    };
    if (elected()) {
#pragma unroll
        for (int box = 0; box < 2; ++box) begin_barrier(barriers + box * 8);
        publish_barriers();
    }
    __syncwarp();
    if (!args.early) {
        wait_for_previous_launch();
        publish_to_boxes();
    }
    fetch(0);
    if (threadIdx.x < 16) ((uint32_t*)(memory + S::kZerosAt))[threadIdx.x] = 0;
    uint32_t table[4];  // from memory, so that they stay in registers: a permutation takes one constant only
#pragma unroll
    for (int j = 0; j < 4; ++j) table[j] = ((const volatile uint32_t*)kTables)[j];
    __syncthreads();  // zeros
    wait_for_previous_launch();

    // A warp converts the k of its own boxes: two pairs' loads are in flight together.
    const uint4* const x = (const uint4*)args.x + lane;
    for (int i = 0; i < count; i += 2) {
        uint4 raw[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int pair = warp + (i + (j >> 1)) * kWarps;
            if (pair < pairs) raw[j] = load_ordered(x + pair * (kPair / 8) + (j & 1) * 32);
        }
        if (i == 0) fetch(1);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int pair = warp + (i + (j >> 1)) * kWarps, place = pair * 16 + (j & 1) * 8 + (lane >> 2);
            if (pair >= pairs) break;
            const float unit = split_quarter<false>(raw[j], digits + place * 64, lane & 3);
            if ((lane & 3) == 0) units[place] = unit * 0.5f;
        }
    }
    let_next_launch_begin();
    __syncwarp();

    // Only the lanes whose k are a column's block have digits for it.
    const bool diagonal = row >> 1 == part;
    const uint8_t* const first_block = diagonal ? digits + (warp * 16 + part) * 64 + (row & 1) * 32 : memory + S::kZerosAt;
    const int block_step = diagonal ? 256 : 0, skip = diagonal ? (kWarps - 1) * 16 * 64 : 0;
    // The copy engine combines the numbers of a row's pieces of 16 bytes with the row's: of the eight lanes that read together, those
    // of the second row find their pieces in the other half of the banks.
    const int place = (row >> 1) | (row & 1) << 2;
    const uint8_t* const first_piece = memory + warp * 2 * S::kCodes + place * kBox;
    const int piece[2] = {(part ^ place) * 16, (part ^ place ^ 4) * 16};
    const uint8_t* my_scales =
        memory + S::kScalesAt + warp * 2 * S::kScales + place * S::kScaleRow + part * (FORMAT == kNvfp4 ? 2 : 1);
    const int nothing[4] = {};
    uint32_t parity = 0;
    int scale_step = S::kScales;
    for (int tile = 0; tile < tiles; ++tile) {
        float sum[TILES][2] = {};
        const uint8_t* my_block = first_block;
        const float* my_unit = units + warp * 16 + part;
#pragma unroll 1
        for (int i = 0; i < count; ++i) {
#pragma unroll
            for (int box = 0; box < 2; ++box) {
                await(barriers + box * 8, parity);
#pragma unroll
                for (int quad = 0; quad < 2; ++quad) {
                    const uint4 digit[2] = {*(const uint4*)my_block, *(const uint4*)(my_block + 16)};
                    my_block += block_step;
                    const float unit = my_unit[box * 8 + quad * 4];
#pragma unroll
                    for (int t = 0; t < TILES; ++t) {
                        uint4 word[2];
                        float scale[2][2], first[2];
#pragma unroll
                        for (int half = 0; half < 2; ++half) {
                            word[half] = *(const uint4*)(first_piece + box * S::kCodes + (t * 16 + half * 8) * kBox + piece[quad]);
                            const uint8_t* const code = my_scales + (t * 16 + half * 8) * S::kScaleRow;
                            if constexpr (FORMAT == kNvfp4) {
                                const float2 both = scales_of(*(const uint16_t*)(code + box * 16 + quad * 8));
                                scale[half][0] = both.x, scale[half][1] = both.y;
                            } else {
                                scale[half][0] = scale_of(code[box * 8 + quad * 4]) * unit;
                            }
                        }
                        int c[4];
#pragma unroll
                        for (int w = 0; w < 4; ++w) {
                            const uint32_t b0 = (&digit[w >> 1].x)[(w & 1) * 2], b1 = (&digit[w >> 1].x)[(w & 1) * 2 + 1];
                            uint32_t a[4], negative[4];
#pragma unroll
                            for (int half = 0; half < 2; ++half) {
                                const uint32_t v = (&word[half].x)[w], inverse = v ^ 0x88888888u;
                                a[half] = permute(table[0], table[1], v), a[2 + half] = permute(table[0], table[1], v >> 16);
                                negative[half] = permute(table[2], table[3], inverse);
                                negative[2 + half] = permute(table[2], table[3], inverse >> 16);
                            }
                            if (w == 0 || (w == 2 && FORMAT == kNvfp4)) mma(c, a, b0, b1, nothing);
                            else mma(c, a, b0, b1, c);
                            mma(c, negative, b0, b1, c);
                            if constexpr (FORMAT == kNvfp4) {
                                if (w == 1) {
#pragma unroll
                                    for (int half = 0; half < 2; ++half)
                                        first[half] = join(c[half * 2], c[half * 2 + 1]) * scale[half][0];
                                }
                            }
                        }
#pragma unroll
                        for (int half = 0; half < 2; ++half) {
                            const float joined = join(c[half * 2], c[half * 2 + 1]);
                            if constexpr (FORMAT == kNvfp4)
                                sum[t][half] = fmaf(fmaf(joined, scale[half][1], first[half]), unit, sum[t][half]);
                            else
                                sum[t][half] = fmaf(joined, scale[half][0], sum[t][half]);
                        }
                    }
                }
                __syncwarp();  // all have read before the box is filled again
                fetch(box);
            }
            parity ^= 1;
            my_scales += scale_step;
            scale_step = -scale_step;
            my_block += skip;
            my_unit += kWarps * 16;
        }
#pragma unroll
        for (int t = 0; t < TILES; ++t)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                sum[t][half] += __shfl_xor_sync(0xFFFFFFFFu, sum[t][half], 1);
                sum[t][half] += __shfl_xor_sync(0xFFFFFFFFu, sum[t][half], 2);
            }

        // Two buffers: a barrier separates a buffer's next use from the reads of its last.
        float* const sums = (float*)(memory + S::kSumsAt + (tile & 1) * S::kSums);
        if (part == 0) {
#pragma unroll
            for (int half = 0; half < 2 * TILES; ++half) sums[warp * (S::kRows + 1) + place + half * 8] = sum[half >> 1][half & 1];
        }
        __syncthreads();
        float total = 0.0f;
        if (threadIdx.x < S::kRows) {
#pragma unroll
            for (int w = 0; w < kWarps; ++w) total += sums[w * (S::kRows + 1) + threadIdx.x];
        }
        const int n = (first_tile + tile) * S::kRows + (int)threadIdx.x;
        if (threadIdx.x < S::kRows && n < args.n) {
            // A scale of NaN was taken for infinity: only such results can have one.
            if (FORMAT == kMxfp4 && !isfinite(total) && has_nan(args.all_scales + (size_t)n * (args.k / 32), args.k / 32))
                total = __uint_as_float(0x7FC00000u);
            if (args.bias != nullptr) total += __bfloat162float(args.bias[n]);
            args.y[n] = __float2bfloat16(activate(total, args.activation));
        }
    }
}

template <int FORMAT, int TILES>
int launch(Arguments& args, const void* codes, int blocks, cudaStream_t stream) {
    using S = Shape<FORMAT, TILES>;
    int status = describe(args.codes, codes, args.n, args.k / 2, S::kRows, kBox, true);
    const int scale_bytes = args.k / kPair * S::kScaleRow;
    if (status == 0)
        status = describe(args.scales, args.all_scales, args.n, scale_bytes, S::kRows, S::kScaleRow, false);
    if (status != 0) return status;
    const int all_tiles = (args.n + S::kRows - 1) / S::kRows;
    args.each = all_tiles / blocks, args.more = all_tiles % blocks;
    return (int)launch_overlapping(
        fp4_decode<FORMAT, TILES>, args, dim3(blocks), kThreads, S::kDigitsAt + args.k / 32 * 68, 1, stream);
}

template <int FORMAT>
int choose(Arguments& args, const void* codes, int blocks, int tiles, cudaStream_t stream) {
    return tiles == 2 ? launch<FORMAT, 2>(args, codes, blocks, stream) : launch<FORMAT, 1>(args, codes, blocks, stream);
}

}  // namespace

// K is a multiple of 512; `blocks` blocks share N, 16 `tiles` (1 or 2) rows at a time. `early`: weights and scales may be read
// before the launch's predecessor ends, because nobody writes them.
// Returns a cudaError_t.
extern "C" int fp4_decode_product(
    const void* codes, const void* scales, const void* x, const void* bias, void* y, long long n, long long k,
    long long blocks, long long activation, long long format, long long tiles, long long early,
    cudaStream_t stream) {
    Arguments args{{}, {}, (const uint8_t*)scales, (const __nv_bfloat16*)x, (const __nv_bfloat16*)bias, (__nv_bfloat16*)y,
                   (int)n, (int)k, (int)activation, (int)early};
    if (format == kMxfp4) return choose<kMxfp4>(args, codes, (int)blocks, (int)tiles, stream);
    return choose<kNvfp4>(args, codes, (int)blocks, (int)tiles, stream);
}
