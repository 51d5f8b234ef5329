// y[M, N] = x[M, K] . w[N, K]^T for two MXFP8 operands (E4M3 or E5M2), through Hopper's fp8 tensor cores.
//
// A scale for every 32 k would cost two float32 operations for each output and block, more than the product. So each row
// is first written anew with one scale for every 128 k (a group), the smallest with which the group's largest element fits:
// elements within 2^-13 (E4M3) or 2^-28 (E5M2) of the largest stay exact, the rest are rounded once, to 2^-17 (2^-31) of
// it. Then four instructions add up a group's products in the tensor cores, each aligning 32 products and the sum so far to
// the largest of them and cutting off what is below 13 bits, and the sum is scaled and added in float32: two operations
// for each output and group.
//
// Two blocks of a cluster share 256 rows of w, each loading half for both; a block has 128 rows of x. One warp copies,
// two warpgroups compute 128 x 128 outputs each, 64 rows at a time, so that one multiplies while the other scales.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "box_code.h"

namespace {

enum Format { kE4m3 = 1, kE5m2 = 2 };

constexpr int kRowsX = 128, kRowsW = 256;                  // of a tile
constexpr int kGroup = 128;                                // k with one scale, and in a stage
constexpr int kCodes = (kRowsX + kRowsW) * kGroup;         // bytes of a stage's elements: x, then w
constexpr int kScales = (kRowsX + kRowsW) * 4;             // and of its scales
constexpr int kStages = 4;
constexpr int kShared = kStages * (kCodes + kScales) + 1024 + 16 * kStages + 16;
constexpr int kTogether = 32;                              // tiles of x that are gone through for each tile of w

// ---- one scale for every 128 k ----

// The exponent of the smallest scale with which a magnitude (a code without its sign, not 0) fits, less its block's own.
template <int FORMAT>
__device__ __forceinline__ int smallest_exponent(int code) {
    if constexpr (FORMAT == kE4m3) {
        if (code < 8) return 31 - __clz(code) - 17;
        return (code >> 3) - 15 + ((code & 7) == 7);  // 1.875 x 2^8 is NaN
    } else {
        if (code < 4) return max(31 - __clz(code) - 31, -30);
        return (code >> 2) - 30;
    }
}

// 2^power in fp16 for -24 .. 15, twice.
__device__ __forceinline__ uint32_t half_power(int power) {
    const uint32_t bits = power < -14 ? 1u << (power + 24) : (uint32_t)(power + 15) << 10;
    return bits * 0x10001u;
}
__device__ __forceinline__ uint32_t mul2(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

// Four codes times 2^(first + second), rounded once to nearest even; NaN stays NaN, and an infinity what it is.
template <int FORMAT>
__device__ __forceinline__ uint32_t rescale(uint32_t codes, uint32_t first, uint32_t second, bool infinite) {
    uint32_t low, high, result;
    if constexpr (FORMAT == kE4m3) {
        asm("{.reg .b16 l, h;\n mov.b32 {l, h}, %2;\n cvt.rn.f16x2.e4m3x2 %0, l;\n cvt.rn.f16x2.e4m3x2 %1, h;}"
            : "=r"(low), "=r"(high) : "r"(codes));
    } else {
        asm("{.reg .b16 l, h;\n mov.b32 {l, h}, %2;\n cvt.rn.f16x2.e5m2x2 %0, l;\n cvt.rn.f16x2.e5m2x2 %1, h;}"
            : "=r"(low), "=r"(high) : "r"(codes));
    }
    low = mul2(mul2(low, first), second);
    high = mul2(mul2(high, first), second);
    if constexpr (FORMAT == kE4m3) {
        asm("{.reg .b16 l, h;\n cvt.rn.satfinite.e4m3x2.f16x2 l, %1;\n cvt.rn.satfinite.e4m3x2.f16x2 h, %2;\n mov.b32 %0, {l, h};}"
            : "=r"(result) : "r"(low), "r"(high));
    } else {
        asm("{.reg .b16 l, h;\n cvt.rn.satfinite.e5m2x2.f16x2 l, %1;\n cvt.rn.satfinite.e5m2x2.f16x2 h, %2;\n mov.b32 %0, {l, h};}"
            : "=r"(result) : "r"(low), "r"(high));
    }
    if (!infinite) return result;
    const uint32_t keep = __vcmpeq4(codes & 0x7C7C7C7Cu, 0x7C7C7C7Cu);  // the conversion saturates
    return (result & ~keep) | (codes & keep);
}

__device__ __forceinline__ float power_of_two(int exponent) {  // from -149
    return __uint_as_float(exponent < -126 ? 1u << (exponent + 149) : (uint32_t)(exponent + 127) << 23);
}

struct Operand {
    const uint8_t* codes;
    const uint8_t* scales;
    uint8_t* grouped;    // codes with one scale for every group
    float* group_scales; // [tiles, groups, rows of a tile], in the order in which lanes read them
    int rows;
};

// Where a lane of the product finds the scale of a tile's row: x's rows r and r + 8 are neighbours.
template <bool LEFT>
__device__ __forceinline__ int scale_place(int row) {
    return LEFT ? (row / 16 * 8 + row % 8) * 2 + row / 8 % 2 : row;
}

// The larger magnitudes of a word's two low bytes of 16 bits and its two high ones.
__device__ __forceinline__ uint32_t magnitudes(uint32_t codes) {
    return __vmaxu2(codes & 0x007F007Fu, codes >> 8 & 0x007F007Fu);
}

// A warp has 512 k of kPieces rows; 8 lanes have a group, 16 elements each.
constexpr int kPieces = 4, kBlockRows = 8 * kPieces;
template <int FORMAT, bool LEFT>
__device__ __forceinline__ void group_rows(const Operand& from, int K, int first) {
    constexpr int kTile = LEFT ? kRowsX : kRowsW;
    const int lane = threadIdx.x % 32, k = blockIdx.x * 512 + lane * 16, groups = (K + kGroup - 1) / kGroup;
    const size_t start = (size_t)first * K + k;
    const uint8_t* scales = from.scales + (size_t)first * (K / 32) + k / 32;
    uint4 codes[kPieces];
    int scale[kPieces];
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
        codes[i] = make_uint4(0, 0, 0, 0);
        scale[i] = 0;
        if (first + i < from.rows && k < K) {
            codes[i] = __ldcs(reinterpret_cast<const uint4*>(from.codes + start + (size_t)i * K));
            scale[i] = scales[i * (K / 32)];
        }
    }
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
        const uint32_t pairs = __vmaxu2(__vmaxu2(magnitudes(codes[i].x), magnitudes(codes[i].y)),
                                        __vmaxu2(magnitudes(codes[i].z), magnitudes(codes[i].w)));
        const int largest = max(pairs & 0xFFFF, pairs >> 16);
        constexpr int kNone = -1024, kNan = 1024;
        int exponent = largest ? max(scale[i] - 127 + smallest_exponent<FORMAT>(largest), -149) : kNone;
        if (scale[i] == 255) exponent = kNan;
#pragma unroll
        for (int other = 1; other < 8; other *= 2) exponent = max(exponent, __shfl_xor_sync(~0u, exponent, other));
        const int row = first + i;
        if (row >= from.rows || k >= K) continue;
        if (lane % 8 == 0) {
            const size_t at = ((size_t)(row / kTile) * groups + k / kGroup) * kTile + scale_place<LEFT>(row % kTile);
            from.group_scales[at] = exponent == kNone ? 1.0f : exponent == kNan ? __int_as_float(0x7FC00000) : power_of_two(exponent);
        }
        const int power = max(scale[i] - 127 - exponent, -48);
        if (power != 0 && largest) {
            const int once = min(max(power, -24), 15);
            const uint32_t a = half_power(once), b = half_power(min(power - once, 15));
            const bool infinite = FORMAT == kE5m2 && largest >= 0x7C;
            codes[i].x = rescale<FORMAT>(codes[i].x, a, b, infinite);
            codes[i].y = rescale<FORMAT>(codes[i].y, a, b, infinite);
            codes[i].z = rescale<FORMAT>(codes[i].z, a, b, infinite);
            codes[i].w = rescale<FORMAT>(codes[i].w, a, b, infinite);
        }
        *reinterpret_cast<uint4*>(from.grouped + start + (size_t)i * K) = codes[i];
    }
}

template <int FORMAT>
__global__ void __launch_bounds__(256) group_both(const Operand x, const Operand w, int K, int blocks_x) {
    const int block = blockIdx.y, first = threadIdx.x / 32 * kPieces;
    if (block < blocks_x) group_rows<FORMAT, true>(x, K, block * kBlockRows + first);
    else group_rows<FORMAT, false>(w, K, (block - blocks_x) * kBlockRows + first);
}

// ---- the product ----

__device__ __forceinline__ uint32_t shared_address(const void* pointer) { return (uint32_t)__cvta_generic_to_shared(pointer); }
__device__ __forceinline__ void barrier_init(uint32_t barrier, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count));
}
__device__ __forceinline__ void barrier_arrive_here(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Lane 0 and 1 tell the blocks of the cluster.
__device__ __forceinline__ void barrier_arrive(uint32_t barrier, int lane) {
    if (lane < 2) {
        asm volatile("{.reg .b32 there;\n mapa.shared::cluster.u32 there, %0, %1;\n mbarrier.arrive.shared::cluster.b64 _, [there];}"
                     ::"r"(barrier), "r"(lane) : "memory");
    }
}
__device__ __forceinline__ void copy_tile_to_both(uint32_t to, const CUtensorMap* map, int k, int row, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;"
        ::"r"(to), "l"(map), "r"(k), "r"(row), "r"(barrier), "h"((uint16_t)3) : "memory");
}
__device__ __forceinline__ void copy_bytes(uint32_t to, const void* from, int bytes, uint32_t barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                 ::"r"(to), "l"(from), "r"(bytes), "r"(barrier) : "memory");
}
// Rows of 128 bytes, swizzled, in units of 8 rows.
__device__ __forceinline__ uint64_t descriptor(uint32_t address) {
    return (uint64_t)((address & 0x3FFFF) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}
__device__ __forceinline__ float2 load2(uint32_t address) {
    float2 v;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(address));
    return v;
}

// The 64 accumulators of a wgmma of 64 rows and 128 columns.
#define OPERANDS \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15," \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31," \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47," \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define EIGHT(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define ACCUMULATORS EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24), EIGHT(32), EIGHT(40), EIGHT(48), EIGHT(56)

// d = left . right^T over 32 k, added to d if KEEP.
template <int FORMAT, int KEEP>
__device__ __forceinline__ void multiply(float (&d)[64], uint64_t left, uint64_t right) {
    if constexpr (FORMAT == kE4m3) {
        asm volatile(
            "{.reg .pred p;\n setp.ne.b32 p, %66, 0;\n"
            " wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {" OPERANDS "}, %64, %65, p, 1, 1;}"
            : ACCUMULATORS : "l"(left), "l"(right), "n"(KEEP));
    } else {
        asm volatile(
            "{.reg .pred p;\n setp.ne.b32 p, %66, 0;\n"
            " wgmma.mma_async.sync.aligned.m64n128k32.f32.e5m2.e5m2 {" OPERANDS "}, %64, %65, p, 1, 1;}"
            : ACCUMULATORS : "l"(left), "l"(right), "n"(KEEP));
    }
}

// The values are computed here, neither earlier nor later.
__device__ __forceinline__ void pin(float (&values)[64]) {
#pragma unroll
    for (int i = 0; i < 64; ++i) asm volatile("" : "+f"(values[i])::"memory");
}

// `value`, once `other` is there: the scalings would otherwise be moved up among the multiplications, which then wait for
// the scales. The selector is no constant, so that the compiler does not see that the bytes of `other` are left out.
__device__ __forceinline__ float after(float value, float other, uint32_t itself) {
    return __uint_as_float(__byte_perm(__float_as_uint(value), __float_as_uint(other), itself));
}

struct Arguments {
    Operand x, w;
    int K, tiles_x, tiles_w;  // tiles_x is even
    uint32_t itself;          // 0x3210: see after()
    __nv_bfloat16* out;
};

// The tile that a cluster's turn `turn` gives to its block `rank`.
__device__ __forceinline__ void place(const Arguments& args, int turn, int rank, int& tile_x, int& tile_w) {
    const int pairs = args.tiles_x / 2, together = kTogether / 2;
    const int band = turn / (together * args.tiles_w), within = turn - band * together * args.tiles_w;
    const int wide = min(together, pairs - band * together);
    tile_x = (band * together + within % wide) * 2 + rank;
    tile_w = within / wide;
}

// A quad's lanes hold two neighbouring columns of each 8; afterwards lane q has the q-th 8 of 32.
__device__ __forceinline__ void transpose(uint32_t (&w)[4], int quad) {
    const bool odd = quad & 1, upper = quad & 2;
    uint32_t a = __shfl_xor_sync(~0u, odd ? w[0] : w[1], 1), b = __shfl_xor_sync(~0u, odd ? w[2] : w[3], 1);
    if (odd) { w[0] = a; w[2] = b; } else { w[1] = a; w[3] = b; }
    a = __shfl_xor_sync(~0u, upper ? w[0] : w[2], 2);
    b = __shfl_xor_sync(~0u, upper ? w[1] : w[3], 2);
    if (upper) { w[0] = a; w[1] = b; } else { w[2] = a; w[3] = b; }
}

template <int FORMAT>
__global__ void __launch_bounds__(384, 1)
product(const __grid_constant__ CUtensorMap map_x, const __grid_constant__ CUtensorMap map_w, const Arguments args) {
    extern __shared__ uint8_t raw[];
    const uint32_t base = (shared_address(raw) + 1023) & ~1023u;  // the same in both blocks
    const uint32_t scales = base + kStages * kCodes;
    const uint32_t full = scales + kStages * kScales, empty = full + 8 * kStages, turn_barriers = empty + 8 * kStages;
    const int warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0);
    const int rank = blockIdx.x % 2;
    if (threadIdx.x == 0) {
        for (int s = 0; s < kStages; ++s) {
            barrier_init(full + 8 * s, 1);
            barrier_init(empty + 8 * s, 16);  // the computing warps of both blocks
        }
        barrier_init(turn_barriers, 4);
        barrier_init(turn_barriers + 8, 4);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    asm volatile("barrier.cluster.arrive.aligned;\n barrier.cluster.wait.aligned;" ::: "memory");
    const int groups = (args.K + kGroup - 1) / kGroup;
    const int turns = args.tiles_x / 2 * args.tiles_w, step = gridDim.x / 2;
    int stage = 0;
    if (warpgroup == 2) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == 256) {
            uint32_t phase = 1;
            for (int turn = blockIdx.x / 2; turn < turns; turn += step) {
                int tile_x, tile_w;
                place(args, turn, rank, tile_x, tile_w);
                const float* scales_x = args.x.group_scales + (size_t)tile_x * groups * kRowsX;
                const float* scales_w = args.w.group_scales + (size_t)tile_w * groups * kRowsW;
#pragma unroll 1
                for (int g = 0; g < groups; ++g) {
                    await(empty + 8 * stage, phase);
                    const uint32_t barrier = full + 8 * stage, to = base + stage * kCodes, to_scales = scales + stage * kScales;
                    expect(barrier, kCodes + kScales);
                    copy_box(to, map_x, g * kGroup, tile_x * kRowsX, barrier);
                    copy_tile_to_both(to + kRowsX * kGroup + rank * (kRowsW / 2 * kGroup), &map_w, g * kGroup,
                                      tile_w * kRowsW + rank * (kRowsW / 2), barrier);
                    copy_bytes(to_scales, scales_x + g * kRowsX, kRowsX * 4, barrier);
                    copy_bytes(to_scales + kRowsX * 4, scales_w + g * kRowsW, kRowsW * 4, barrier);
                    if (++stage == kStages) { stage = 0; phase ^= 1; }
                }
            }
            for (int s = 0; s < kStages; ++s) {  // the other block may still signal these barriers
                await(empty + 8 * stage, phase);
                if (++stage == kStages) { stage = 0; phase ^= 1; }
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4, quad = lane % 4;
        const uint32_t place_x = warp * 64 + lane / 4 * 8, place_w = kRowsX * 4 + warpgroup * 512 + quad * 8;
        uint32_t phase = 0;
        // The warpgroups multiply in turns: both at once would also scale at once, and leave the tensor cores idle.
        // Barriers in shared memory, whose wait is a loop, keep the compiler from waiting before it has scaled.
        const uint32_t my_turn = turn_barriers + 8 * warpgroup, other_turn = turn_barriers + 8 - 8 * warpgroup;
        if (warpgroup == 1 && lane == 0) barrier_arrive_here(other_turn);  // the first is the other's
        for (int turn = blockIdx.x / 2; turn < turns; turn += step) {
            float total[2][64];
#pragma unroll
            for (int i = 0; i < 128; ++i) total[i / 64][i % 64] = 0.0f;
#pragma unroll 1
            for (int g = 0; g < groups; ++g) {
                const uint32_t at = base + stage * kCodes, at_scales = scales + stage * kScales;
                const uint64_t left = descriptor(at), right = descriptor(at + (kRowsX + warpgroup * 128) * kGroup);
                float2 w[16];  // of the lane's columns
                await(full + 8 * stage, phase);
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    float sum[64];
                    const uint64_t rows = left + half * (64 * kGroup / 16);
                    await(my_turn, half);
                    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
                    multiply<FORMAT, 0>(sum, rows, right);
                    multiply<FORMAT, 1>(sum, rows + 2, right + 2);
                    multiply<FORMAT, 1>(sum, rows + 4, right + 4);
                    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
                    multiply<FORMAT, 1>(sum, rows + 6, right + 6);
                    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
                    float2 x = load2(at_scales + place_x + half * 256);
                    if (half == 0) {
#pragma unroll
                        for (int j = 0; j < 16; ++j) w[j] = load2(at_scales + place_w + j * 32);
                    }
                    asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
                    if (lane == 0) barrier_arrive_here(other_turn);  // while the last quarter is computed
                    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
                    pin(sum);
                    if (half == 1) barrier_arrive(empty + 8 * stage, lane);
                    x.x = after(x.x, sum[0], args.itself);
                    x.y = after(x.y, sum[0], args.itself);
#pragma unroll
                    for (int j = 0; j < 16; ++j) {
                        float* to = total[half] + j * 4;
                        to[0] = fmaf(sum[j * 4], x.x * w[j].x, to[0]);
                        to[1] = fmaf(sum[j * 4 + 1], x.x * w[j].y, to[1]);
                        to[2] = fmaf(sum[j * 4 + 2], x.y * w[j].x, to[2]);
                        to[3] = fmaf(sum[j * 4 + 3], x.y * w[j].y, to[3]);
                    }
                    pin(total[half]);  // scaled before the next turn is waited for
                }
                if (++stage == kStages) { stage = 0; phase ^= 1; }
            }
            const int N = args.w.rows;
            int tile_x, tile_w;
            place(args, turn, rank, tile_x, tile_w);
#pragma unroll
            for (int part = 0; part < 4; ++part) {  // rows: 64 times a half, and 8 times an h
                const int half = part / 2, h = part % 2;
                const int row = tile_x * kRowsX + half * 64 + warp * 16 + lane / 4 + 8 * h;
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    uint32_t two[4];
#pragma unroll
                    for (int q = 0; q < 4; ++q) {
                        const int i = (j * 4 + q) * 4 + 2 * h;
                        const __nv_bfloat162 both = __floats2bfloat162_rn(total[half][i], total[half][i + 1]);
                        two[q] = *reinterpret_cast<const uint32_t*>(&both);
                    }
                    transpose(two, quad);
                    const int column = tile_w * kRowsW + warpgroup * 128 + j * 32 + quad * 8;
                    if (row >= args.x.rows) continue;
                    __nv_bfloat16* to = args.out + (size_t)row * N + column;
                    if (N % 8 == 0) {
                        if (column < N) *reinterpret_cast<uint4*>(to) = make_uint4(two[0], two[1], two[2], two[3]);
                    } else {
#pragma unroll
                        for (int q = 0; q < 8; ++q)
                            if (column + q < N) to[q] = __ushort_as_bfloat16((unsigned short)(two[q / 2] >> 16 * (q % 2)));
                    }
                }
            }
        }
    }
}

template <int FORMAT>
int launch(const Arguments& args, int processors, cudaStream_t stream) {
    const int blocks_x = (args.x.rows + kBlockRows - 1) / kBlockRows, blocks_w = (args.w.rows + kBlockRows - 1) / kBlockRows;
    const dim3 grid((args.K + 511) / 512, blocks_x + blocks_w);
    group_both<FORMAT><<<grid, 256, 0, stream>>>(args.x, args.w, args.K, blocks_x);
    int status = cudaGetLastError();
    CUtensorMap map_x, map_w;
    constexpr auto kLines = CU_TENSOR_MAP_L2_PROMOTION_L2_256B;
    if (status == cudaSuccess) status = describe(map_x, args.x.grouped, args.x.rows, args.K, 128, kGroup, true, kLines);
    if (status == cudaSuccess) status = describe(map_w, args.w.grouped, args.w.rows, args.K, 128, kGroup, true, kLines);
    if (status == cudaSuccess)
        status = cudaFuncSetAttribute(product<FORMAT>, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
    if (status != cudaSuccess) return status;
    const int turns = args.tiles_x / 2 * args.tiles_w;
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = 2;
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(2 * (turns < processors / 2 ? turns : processors / 2));
    config.blockDim = dim3(384);
    config.dynamicSmemBytes = kShared;
    config.stream = stream;
    config.attrs = &cluster;
    config.numAttrs = 1;
    return (int)cudaLaunchKernelEx(&config, product<FORMAT>, map_x, map_w, args);
}

}  // namespace

// x [M, K] and w [N, K] in MXFP8; grouped_* and group_scales_* are memory to work in (see fp8_product_cuda.py).
extern "C" int fp8_product(const void* x, const void* x_scales, void* grouped_x, void* group_scales_x, const void* w,
                           const void* w_scales, void* grouped_w, void* group_scales_w, void* out, long long M, long long N,
                           long long K, long long format, long long processors, cudaStream_t stream) {
    Arguments args{};
    args.x = {(const uint8_t*)x, (const uint8_t*)x_scales, (uint8_t*)grouped_x, (float*)group_scales_x, (int)M};
    args.w = {(const uint8_t*)w, (const uint8_t*)w_scales, (uint8_t*)grouped_w, (float*)group_scales_w, (int)N};
    args.K = (int)K;
    args.itself = 0x3210;
    args.tiles_x = (int)((M + 2 * kRowsX - 1) / (2 * kRowsX)) * 2;
    args.tiles_w = (int)((N + kRowsW - 1) / kRowsW);
    args.out = (__nv_bfloat16*)out;
    return format == kE4m3 ? launch<kE4m3>(args, (int)processors, stream) : launch<kE5m2>(args, (int)processors, stream);
}
