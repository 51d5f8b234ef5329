// y[M, N] = x[M, K] . w[N, K]^T for M = 1 .. 16 and weights in a block format, for Hopper and Ampere GPUs.
//
// A warp multiplies TILES x 16 rows of the weights by 8 or 16 rows of x with mma.m16n8k16: the weights are
// the left operand, so that they go from memory to the registers that the tensor cores read, through no
// shared memory. The order of k inside a product is free: a lane's 16 consecutive bytes of a row of the weights are
// whatever k the fragment layout gives that lane, and x is read in the same order. Every weight is
// decoded to bfloat16 exactly (its scale included) with two elements to an instruction; sums are float32.
//
// A block of WARPS warps shares its rows and splits K; blocks may split K further ("splits"): they leave
// float32 partial sums, and the last block to finish adds them in order, so that results do not vary.
#include "decode_common.h"

namespace {

constexpr uint32_t kMinusZero = 0x80008000u;

__device__ __forceinline__ uint32_t fma2(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
__device__ __forceinline__ uint32_t mul2(uint32_t a, uint32_t b) { return fma2(a, b, kMinusZero); }

// Weights pass by the L1 cache, which x needs.
__device__ __forceinline__ uint4 load_stream(const void* pointer) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(pointer));
    return v;
}

__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A power of two 2^(code - 127) as bfloat16 twice; the subnormal one and the NaN included.
__device__ __forceinline__ uint32_t power_pair(uint32_t code) {
    uint32_t bits = code << 7;
    bits = code == 0 ? 0x0040u : bits;
    bits = code == 255 ? 0x7FC0u : bits;
    return bits * 0x00010001u;
}

// An E4M3 code as bfloat16, twice: exact.
__device__ __forceinline__ uint32_t e4m3_pair(uint32_t code) {
    uint32_t bits = (code & 0x80u) << 8 | (code & 0x7Fu) << 4;
    uint32_t pair = mul2(bits * 0x00010001u, 0x7B807B80u);  // 2^120
    return (code & 0x7F) == 0x7F ? 0x7FC07FC0u : pair;
}

// 4 bytes to two pairs of bfloat16, times the scale: MXINT8.
__device__ __forceinline__ void decode_int8(uint32_t word, uint32_t scale, uint32_t& p0, uint32_t& p1) {
    const uint32_t a = permute(word, 0x43434343u, 0x4140), b = permute(word, 0x43434343u, 0x4342);
    p0 = mul2(fma2(a & 0xFF80FF80u, 0xBF80BF80u, a & 0xFF7FFF7Fu), scale);
    p1 = mul2(fma2(b & 0xFF80FF80u, 0xBF80BF80u, b & 0xFF7FFF7Fu), scale);
}

// 4 bytes of E4M3, NaN codes aside: the code's fields moved to bfloat16's are the value x 2^-120.
__device__ __forceinline__ void decode_e4m3(uint32_t word, uint32_t scale, uint32_t& p0, uint32_t& p1) {
    const uint32_t a = permute(word, 0, 0x1404), b = permute(word, 0, 0x3424);
    p0 = mul2(mul2((a & 0x80008000u) | ((a >> 4) & 0x07F007F0u), 0x7B807B80u), scale);
    p1 = mul2(mul2((b & 0x80008000u) | ((b >> 4) & 0x07F007F0u), 0x7B807B80u), scale);
}

// 8 nibbles of E2M1 to four pairs, elements i and i + 4 in one: the fields moved are the value x 2^-126.
__device__ __forceinline__ void decode_e2m1(uint32_t word, uint32_t scale, uint32_t (&p)[4]) {
    const uint32_t lift = 0x7E807E80u;  // 2^126
    p[0] = mul2(mul2(((word << 12) & 0x80008000u) | ((word << 6) & 0x01C001C0u), lift), scale);
    p[1] = mul2(mul2(((word << 8) & 0x80008000u) | ((word << 2) & 0x01C001C0u), lift), scale);
    p[2] = mul2(mul2(((word << 4) & 0x80008000u) | ((word >> 2) & 0x01C001C0u), lift), scale);
    p[3] = mul2(mul2((word & 0x80008000u) | ((word >> 6) & 0x01C001C0u), lift), scale);
}

struct Arguments {
    const uint8_t* codes;
    const uint8_t* scales;
    const __nv_bfloat16* x;
    const __nv_bfloat16* bias;  // [N] or null
    __nv_bfloat16* y;
    float* partial;      // [splits, groups, 16 TILES, 8 COLS]
    int* arrived;        // [groups], zero before and after
    int m, n, k, splits, activation;
};

// TILES: 16-row tiles of the weights to a warp; COLS: 8-row tiles of x; DEPTH: loads of 16 bytes in flight a row.
template <int FORMAT, int TILES, int COLS, int WARPS, int DEPTH>
__global__ void __launch_bounds__(WARPS * 32) decode_product(const Arguments args) {
    constexpr bool kNibbles = FORMAT >= kMxfp4;
    constexpr int kLane = kNibbles ? 32 : 16;    // elements in 16 bytes
    constexpr int kChunk = 4 * kLane;            // k that four lanes cover with one load each
    constexpr int kBlock = FORMAT == kNvfp4 ? 16 : 32;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int row = lane >> 2, part = lane & 3;
    const int first = blockIdx.x * (16 * TILES);
    const int chunks = args.k / kChunk;
    const int workers = WARPS * args.splits;
    const int worker = blockIdx.y * WARPS + warp;
    const int begin = (int)((long long)chunks * worker / workers);
    const int end = (int)((long long)chunks * (worker + 1) / workers);
    const size_t stride = kNibbles ? args.k / 2 : args.k;
    const int blocks = args.k / kBlock;

    float sum[TILES][COLS][4];
#pragma unroll
    for (int t = 0; t < TILES; ++t)
#pragma unroll
        for (int c = 0; c < COLS; ++c)
#pragma unroll
            for (int i = 0; i < 4; ++i) sum[t][c][i] = 0.0f;

    const uint8_t* code[TILES][2];
    const uint8_t* scale[TILES][2];
#pragma unroll
    for (int t = 0; t < TILES; ++t)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int n = min(first + t * 16 + half * 8 + row, args.n - 1);  // rows past the end are not stored
            code[t][half] = args.codes + n * stride + part * 16;
            scale[t][half] = args.scales + (size_t)n * blocks + part * kLane / kBlock;
        }
    uint32_t invalid[TILES][2] = {};

    uint4 words[DEPTH][TILES][2];
    uint32_t powers[DEPTH][TILES][2];
    auto fetch = [&](int slot, int chunk) {
        if (chunk >= end) return;
#pragma unroll
        for (int t = 0; t < TILES; ++t)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                words[slot][t][half] = load_stream(code[t][half] + (size_t)chunk * 64);
                const uint8_t* place = scale[t][half] + (size_t)chunk * (kChunk / kBlock);
                powers[slot][t][half] = FORMAT == kNvfp4 ? __ldg((const uint16_t*)place) : __ldg(place);
            }
    };
#pragma unroll
    for (int slot = 0; slot < DEPTH; ++slot) fetch(slot, begin + slot);

    for (int base = begin; base < end; base += DEPTH) {
#pragma unroll
        for (int slot = 0; slot < DEPTH; ++slot) {
            const int chunk = base + slot;
            if (chunk >= end) break;
            uint4 word[TILES][2];
            uint32_t pair[TILES][2][2];
#pragma unroll
            for (int t = 0; t < TILES; ++t)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    word[t][half] = words[slot][t][half];
                    const uint32_t power = powers[slot][t][half];
                    if (FORMAT == kNvfp4) {
                        pair[t][half][0] = e4m3_pair(power & 0xFF);
                        pair[t][half][1] = e4m3_pair(power >> 8);
                    } else {
                        pair[t][half][0] = power_pair(power);
                        if (FORMAT == kMxint8) pair[t][half][0] = mul2(pair[t][half][0], 0x3C803C80u);
                    }
                }
            fetch(slot, chunk + DEPTH);
            // Words of 4 bytes: 4 or 8 elements, one or two products.
#pragma unroll
            for (int w = 0; w < 4; ++w) {
                constexpr int kProducts = kNibbles ? 2 : 1;
                uint32_t b[COLS][4];
#pragma unroll
                for (int c = 0; c < COLS; ++c) {
                    const int m = c * 8 + row;
                    const __nv_bfloat16* source =
                        args.x + (size_t)m * args.k + (size_t)chunk * kChunk + part * kLane + w * (4 * kProducts);
                    if (m < args.m) {
                        if (kNibbles) {
                            const uint4 v = __ldg((const uint4*)source);
                            b[c][0] = permute(v.x, v.z, 0x5410);
                            b[c][1] = permute(v.x, v.z, 0x7632);
                            b[c][2] = permute(v.y, v.w, 0x5410);
                            b[c][3] = permute(v.y, v.w, 0x7632);
                        } else {
                            const uint2 v = __ldg((const uint2*)source);
                            b[c][0] = v.x;
                            b[c][1] = v.y;
                        }
                    } else {
                        b[c][0] = b[c][1] = b[c][2] = b[c][3] = 0;
                    }
                }
#pragma unroll
                for (int t = 0; t < TILES; ++t) {
                    uint32_t a[2][4];
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const uint32_t bytes = (&word[t][half].x)[w];
                        if (kNibbles) {
                            uint32_t p[4];
                            decode_e2m1(bytes, pair[t][half][FORMAT == kNvfp4 ? w >> 1 : 0], p);
                            a[0][half] = p[0];
                            a[0][2 + half] = p[1];
                            a[1][half] = p[2];
                            a[1][2 + half] = p[3];
                        } else if (FORMAT == kMxint8) {
                            decode_int8(bytes, pair[t][half][0], a[0][half], a[0][2 + half]);
                        } else {
                            decode_e4m3(bytes, pair[t][half][0], a[0][half], a[0][2 + half]);
                            // A NaN code's carry reaches the byte's top bit; it spoils its whole row.
                            invalid[t][half] |= (bytes & 0x7F7F7F7Fu) + 0x01010101u;
                        }
                    }
#pragma unroll
                    for (int c = 0; c < COLS; ++c) {
                        mma(sum[t][c], a[0], b[c][0], b[c][1]);
                        if (kNibbles) mma(sum[t][c], a[1], b[c][2], b[c][3]);
                    }
                }
            }
        }
    }

    if (FORMAT == kMxfp8) {
#pragma unroll
        for (int t = 0; t < TILES; ++t)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                uint32_t flag = invalid[t][half] & 0x80808080u;
                flag |= __shfl_xor_sync(0xFFFFFFFFu, flag, 1);
                flag |= __shfl_xor_sync(0xFFFFFFFFu, flag, 2);
                if (flag)
#pragma unroll
                    for (int c = 0; c < COLS; ++c)
                        sum[t][c][half * 2] = sum[t][c][half * 2 + 1] = __int_as_float(0x7FC00000);
            }
    }

    // The warps of the block add their sums in shared memory: a fragment's element (r, c) belongs to
    // weight row r and x row c.
    constexpr int kRows = 16 * TILES, kColumns = 8 * COLS;
    __shared__ float shared[WARPS][kColumns][kRows + 1];
#pragma unroll
    for (int t = 0; t < TILES; ++t)
#pragma unroll
        for (int c = 0; c < COLS; ++c)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                shared[warp][c * 8 + part * 2 + (i & 1)][t * 16 + row + (i >> 1) * 8] = sum[t][c][i];
    __syncthreads();
    const int columns = min(kColumns, args.m);
    float* mine = args.partial + ((size_t)blockIdx.y * gridDim.x + blockIdx.x) * (kRows * kColumns);
    for (int i = threadIdx.x; i < kRows * columns; i += WARPS * 32) {
        const int column = i / kRows, r = i % kRows;
        float total = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; ++w) total += shared[w][column][r];
        if (args.splits > 1)
            mine[i] = total;
        else
            shared[0][column][r] = total;
    }
    if (args.splits > 1) {
        __shared__ int last;
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            last = atomicAdd(args.arrived + blockIdx.x, 1) == args.splits - 1;
            if (last) args.arrived[blockIdx.x] = 0;
        }
        __syncthreads();
        if (!last) return;
        __threadfence();
    } else {
        __syncthreads();
    }
    for (int i = threadIdx.x; i < kRows * columns; i += WARPS * 32) {
        const int column = i / kRows, r = i % kRows, n = first + r;
        float total = 0.0f;
        if (args.splits > 1) {
            for (int s = 0; s < args.splits; ++s)
                total += __ldcg(args.partial + ((size_t)s * gridDim.x + blockIdx.x) * (kRows * kColumns) + i);
        } else {
            total = shared[0][column][r];
        }
        if (n < args.n) {
            if (args.bias != nullptr) total += __bfloat162float(args.bias[n]);
            args.y[(size_t)column * args.n + n] = __float2bfloat16(activate(total, args.activation));
        }
    }
}

template <int FORMAT, int TILES, int COLS, int WARPS, int DEPTH>
int launch(const Arguments& args, cudaStream_t stream) {
    const dim3 grid((args.n + 16 * TILES - 1) / (16 * TILES), args.splits);
    decode_product<FORMAT, TILES, COLS, WARPS, DEPTH><<<grid, WARPS * 32, 0, stream>>>(args);
    return (int)cudaGetLastError();
}

template <int FORMAT>
int choose(const Arguments& args, int shape, cudaStream_t stream) {
    if (args.m <= 8) {
        switch (shape) {
            case 0: return launch<FORMAT, 1, 1, 8, 2>(args, stream);
            case 1: return launch<FORMAT, 1, 1, 8, 4>(args, stream);
            case 2: return launch<FORMAT, 2, 1, 8, 2>(args, stream);
            case 3: return launch<FORMAT, 2, 1, 4, 2>(args, stream);
            case 4: return launch<FORMAT, 1, 1, 4, 4>(args, stream);
            default: return launch<FORMAT, 1, 1, 16, 2>(args, stream);
        }
    }
    switch (shape) {
        case 0: return launch<FORMAT, 2, 2, 8, 2>(args, stream);
        case 1: return launch<FORMAT, 1, 2, 8, 2>(args, stream);
        case 2: return launch<FORMAT, 4, 2, 4, 1>(args, stream);
        case 3: return launch<FORMAT, 4, 2, 8, 1>(args, stream);
        case 4: return launch<FORMAT, 2, 2, 4, 2>(args, stream);
        default: return launch<FORMAT, 1, 2, 16, 2>(args, stream);
    }
}

}  // namespace

extern "C" int decode_product_blocks(
    const void* codes, const void* scales, const void* x, const void* bias, void* y, void* partial, void* arrived,
    long long m, long long n, long long k, long long splits, long long activation, long long format, long long shape,
    cudaStream_t stream) {
    const Arguments args{
        (const uint8_t*)codes, (const uint8_t*)scales, (const __nv_bfloat16*)x, (const __nv_bfloat16*)bias,
        (__nv_bfloat16*)y, (float*)partial, (int*)arrived, (int)m, (int)n, (int)k, (int)splits, (int)activation};
    switch (format) {
        case kMxint8: return choose<kMxint8>(args, (int)shape, stream);
        case kMxfp8: return choose<kMxfp8>(args, (int)shape, stream);
        case kMxfp4: return choose<kMxfp4>(args, (int)shape, stream);
        default: return choose<kNvfp4>(args, (int)shape, stream);
    }
}
