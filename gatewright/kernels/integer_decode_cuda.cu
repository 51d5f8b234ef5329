// y[M, N] = x[M, K] . w[N, K]^T for M = 1 .. 4 and weights in MXINT8 or MXFP4, through the int8 tensor cores.
//
// The weights need no decoding, or nearly none: MXINT8 codes are int8 already, and twice an E2M1 value is an integer
// of at most 12 that one byte permutation looks up. x is split, once a block of 32, into two digits of 8 bits in units of
// 2^-13 of the power of two below the block's largest magnitude (exact for elements within 2^-6 of it, and to 2^-14 of
// it for the rest); the digits are columns of the right operand. A block's dot product is exact in int32, starts at the bits of
// 1.5 x 2^23 so that it is a float32 too, and is scaled and added in float32. Infinities in x give NaN.
//
// ROWGROUPS x KGROUPS warps share a block: the first split its rows, the second its part of K. The blocks
// of a cluster split K further; sums are added in a fixed order through (distributed) shared memory.
//
// The launch may overlap its predecessor's end: weights and scales, which no product writes, are fetched
// before the wait on the predecessor, x only after it.
#include <cooperative_groups.h>
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace {

enum Format { kMxint8 = 0, kMxfp4 = 2 };
constexpr int kPitch = 128;              // bytes of a row in a chunk
constexpr int kSlot = 16 * kPitch;       // a warp's chunk of 16 rows
constexpr int kMagic = 0x4B400000;       // 1.5 x 2^23 in float32
constexpr float kMagicValue = 12582912.0f;

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return (uint32_t)__cvta_generic_to_shared(pointer);
}
__device__ __forceinline__ void copy16(uint32_t to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ void mma(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(kMagic));
}

// prmt itself: the intrinsic masks the selectors' top bits, which spread a byte's sign.
__device__ __forceinline__ uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
    uint32_t result;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(selector));
    return result;
}

// 8 nibbles of E2M1 to 8 bytes of twice their values.
__device__ __forceinline__ void decode_e2m1(uint32_t word, uint32_t& low, uint32_t& high) {
    const uint32_t magnitude = word & 0x77777777u, shifted = word << 4;
    const uint32_t sign_low = permute(shifted, word, 0xD9C8), sign_high = permute(shifted, word, 0xFBEA);
    const uint32_t upper = magnitude >> 16;
    low = (permute(0x03020100u, 0x0C080604u, magnitude) & ~sign_low) |
          (permute(0xFDFEFF00u, 0xF4F8FAFCu, magnitude) & sign_low);
    high = (permute(0x03020100u, 0x0C080604u, upper) & ~sign_high) |
           (permute(0xFDFEFF00u, 0xF4F8FAFCu, upper) & sign_high);
}

// 2^(code - 127) x unit in float32: subnormal at the end, NaN for 255.
__device__ __forceinline__ float power(uint32_t code, float unit) {
    uint32_t bits = code == 0 ? 0x00400000u : code << 23;
    bits = code == 255 ? 0x7FC00000u : bits;
    return __uint_as_float(bits) * unit;
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
    int m, n, k, splits, activation, overlap;
    int scale_stride;  // bytes between rows of scales in shared memory: an odd multiple of 16
};

template <int TILES, int ROWGROUPS, int KGROUPS, int RING>
struct Shape {
    static constexpr int kWarps = ROWGROUPS * KGROUPS;
    static constexpr int kRows = 16 * ROWGROUPS;
    static constexpr int kColumns = 4 * TILES;  // rows of x
    static constexpr int kRing = kWarps * RING * kSlot;
    static constexpr int kSums = KGROUPS * kColumns * (kRows + 1) * 4;
    static constexpr int kFront = kRing > kSums ? kRing : (kSums + 15) / 16 * 16;  // the queues, later the sums
};

// Digits of one block of x: `digits` gets 32 high bytes, then 32 low ones; returns the unit.
__device__ __forceinline__ float split_block(const __nv_bfloat16* x, uint8_t* digits) {
    uint4 raw[4];
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        raw[i] = __ldg((const uint4*)x + i);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const uint32_t word = (&raw[i].x)[j];
            largest = max(largest, max(word & 0x7FFFu, word >> 16 & 0x7FFFu));
        }
    }
    const uint32_t exponent = max(largest >> 7, 14u);
    const float factor = __uint_as_float((267u - min(exponent, 254u)) << 23);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        uint4 high, low;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            uint32_t h = 0, l = 0;
#pragma unroll
            for (int b = 0; b < 4; ++b) {
                const uint32_t word = (&raw[i * 2 + (j >> 1)].x)[(j & 1) * 2 + (b >> 1)];
                const float value = __uint_as_float(b & 1 ? word & 0xFFFF0000u : word << 16);
                const int q = __float2int_rn(value * factor);
                const int upper = (q + 128) >> 8;
                h |= (uint32_t)(upper & 0xFF) << (8 * b);
                l |= (uint32_t)(q & 0xFF) << (8 * b);
            }
            (&high.x)[j] = h, (&low.x)[j] = l;
        }
        ((uint4*)digits)[i] = high;
        ((uint4*)digits)[2 + i] = low;
    }
    return exponent == 255u ? __uint_as_float(0x7FC00000u) : __uint_as_float((exponent - 13u) << 23);
}

// How a row's pieces of 16 bytes are swapped: lanes read 8 bytes of four rows together, or 4 of eight.
template <int FORMAT>
__device__ __forceinline__ int swap(int row) {
    return FORMAT == kMxfp4 ? row & 7 : (row & 3) << 1;
}

// Scale `index` of four codes as float32 in the elements' unit; NaN codes are the caller's.
__device__ __forceinline__ float byte_scale(uint32_t four, int index) {
    const uint32_t bits = index == 3 ? four >> 1 : four << (23 - 8 * index);
    return __uint_as_float(max(bits & 0x7F800000u, 0x00400000u)) * 0.015625f;
}

template <int FORMAT, int TILES, int ROWGROUPS, int KGROUPS, int RING, int BLOCKS>
__global__ void __launch_bounds__(ROWGROUPS * KGROUPS * 32, BLOCKS) integer_decode(const Arguments args) {
    using S = Shape<TILES, ROWGROUPS, KGROUPS, RING>;
    constexpr int kChunk = FORMAT == kMxfp4 ? 256 : 128;  // k in 128 bytes of a row: whole lines
    constexpr int kPerChunk = kChunk / 32;
    extern __shared__ __align__(16) uint8_t memory[];
    __shared__ int spoilt[S::kRows];
    uint8_t* const scales = memory + S::kFront;
    asm volatile("griddepcontrol.launch_dependents;");

    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int rowgroup = warp / KGROUPS, kgroup = warp % KGROUPS;
    const int row = lane >> 2, part = lane & 3;
    const int split = blockIdx.x, first = blockIdx.y * S::kRows;
    const int units = args.k / kChunk;
    const int begin = units * split / args.splits * kChunk;
    const int depth = units * (split + 1) / args.splits * kChunk - begin;
    const int blocks = depth / 32;
    uint8_t* const digits = scales + S::kRows * args.scale_stride;  // [block][row of x][high, low][32]
    float* const x_units = (float*)(digits + (size_t)blocks * args.m * 64);  // [block][row of x]
    const size_t stride = FORMAT == kMxfp4 ? args.k / 2 : args.k;
    const int count = (depth / kChunk - kgroup + KGROUPS - 1) / KGROUPS;

    uint8_t* const queue = memory + warp * (RING * kSlot);
    // Eight lanes copy a row's line, four rows at a time. Its pieces of 16 bytes are swapped about so that the lanes
    // that read them together find them in different banks.
    const uint32_t target = shared_address(queue) + (lane >> 3) * kPitch;
    const uint8_t* code[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const int n = min(first + rowgroup * 16 + j * 4 + (lane >> 3), args.n - 1);  // rows past the end are not stored
        code[j] = args.codes + n * stride + (FORMAT == kMxfp4 ? begin / 2 : begin) + kgroup * 128 + (lane & 7) * 16;
    }
    auto fetch = [&](int i, int slot) {
        if (i < count) {
#pragma unroll
            for (int j = 0; j < 4; ++j)
                copy16(target + slot * kSlot + j * 4 * kPitch + ((lane & 7) ^ swap<FORMAT>(j * 4 + (lane >> 3))) * 16,
                       code[j] + (size_t)i * (KGROUPS * 128));
        }
        commit();
    };
#pragma unroll
    for (int i = 0; i < RING; ++i) fetch(i, i);
    // MXFP4 has its scales as float32 (half a unit included); MXINT8, with more time to decode them, as they are: four
    // blocks to a multiprocessor fit. A NaN scale spoils its whole row.
    const int words = blocks / 4;
    if (threadIdx.x < S::kRows) spoilt[threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < S::kRows * words; i += S::kWarps * 32) {
        const int r = i / words, w = i % words;
        const size_t n = min(first + r, args.n - 1);
        const uint32_t four = __ldg((const uint32_t*)(args.scales + n * (args.k / 32) + begin / 32) + w);
        uint8_t* const place = scales + r * args.scale_stride;
        if (FORMAT == kMxint8) {
            *(uint32_t*)(place + w * 4) = four;
            if (__vcmpeq4(four, 0xFFFFFFFFu)) spoilt[r] = 1;
        } else {
            *(float4*)(place + w * 16) = make_float4(power(four & 0xFF, 0.5f), power(four >> 8 & 0xFF, 0.5f),
                                                     power(four >> 16 & 0xFF, 0.5f), power(four >> 24, 0.5f));
        }
    }
    asm volatile("griddepcontrol.wait;" ::: "memory");
    for (int i = threadIdx.x; i < args.m * blocks; i += S::kWarps * 32) {
        const int m = i % args.m, block = i / args.m;
        x_units[i] = split_block(args.x + (size_t)m * args.k + begin + block * 32, digits + (size_t)i * 64);
    }
    __syncthreads();

    float sum[TILES][2] = {};
    const uint8_t* const my_scales = scales + (rowgroup * 16 + row) * args.scale_stride;
    const uint8_t* const my_digits = digits + row * 32 + part * 8;
    int slot = 0;
    for (int i = 0; i < count; ++i) {
        wait_copies<RING - 1>();
        __syncwarp();  // lanes read what others copied
        const uint8_t* const stage = queue + slot * kSlot + row * kPitch;
        const int base = (kgroup + i * KGROUPS) * kPerChunk;
        uint32_t four[2];
        if (FORMAT == kMxint8) {
            four[0] = *(const uint32_t*)(my_scales + base);
            four[1] = *(const uint32_t*)(my_scales + 8 * args.scale_stride + base);
        }
#pragma unroll
        for (int b = 0; b < kPerChunk; ++b) {
            const int block = base + b;
            uint32_t a[4];
            float scale[2];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const uint8_t* const line = stage + half * 8 * kPitch;
                if (FORMAT == kMxfp4) {
                    decode_e2m1(*(const uint32_t*)(line + (b ^ swap<FORMAT>(row)) * 16 + part * 4), a[half], a[2 + half]);
                    scale[half] = *(const float*)(my_scales + half * 8 * args.scale_stride + block * 4);
                } else {
                    const int piece = (b * 2 + (part >> 1)) ^ swap<FORMAT>(row);
                    const uint2 v = *(const uint2*)(line + piece * 16 + (part & 1) * 8);
                    a[half] = v.x, a[2 + half] = v.y;
                    scale[half] = byte_scale(four[half], b);
                }
            }
#pragma unroll
            for (int t = 0; t < TILES; ++t) {
                uint2 v = make_uint2(0, 0);
                if (t * 8 + row < args.m * 2) v = *(const uint2*)(my_digits + (size_t)block * args.m * 64 + t * 256);
                int c[4];
                mma(c, a, v.x, v.y);
                const int m = min(t * 4 + part, args.m - 1);
                const float unit = x_units[block * args.m + m];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const float high = __int_as_float(c[half * 2]) - kMagicValue;
                    const float low = __int_as_float(c[half * 2 + 1]) - kMagicValue;
                    sum[t][half] = fmaf(fmaf(high, 256.0f, low), scale[half] * unit, sum[t][half]);
                }
            }
        }
        __syncwarp();  // all have read before the slot is filled again
        fetch(i + RING, slot);
        slot = slot == RING - 1 ? 0 : slot + 1;
    }
    wait_copies<0>();

    // [kgroup][row of x][row of the weights].
    __syncthreads();
    float* const sums = (float*)memory;
    constexpr int kSumPitch = S::kRows + 1;
#pragma unroll
    for (int t = 0; t < TILES; ++t)
#pragma unroll
        for (int half = 0; half < 2; ++half)
            sums[(kgroup * S::kColumns + t * 4 + part) * kSumPitch + rowgroup * 16 + row + half * 8] =
                spoilt[rowgroup * 16 + row + half * 8] ? __uint_as_float(0x7FC00000u) : sum[t][half];
    __syncthreads();
    cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
    const int results = S::kRows * args.m;
    if (args.splits > 1) {
        if (KGROUPS > 1) {
            for (int i = threadIdx.x; i < results; i += S::kWarps * 32) {
                float total = 0.0f;
                for (int g = 0; g < KGROUPS; ++g)
                    total += sums[(g * S::kColumns + i / S::kRows) * kSumPitch + i % S::kRows];
                sums[i / S::kRows * kSumPitch + i % S::kRows] = total;
            }
        }
        cluster.sync();
    }
    for (int i = split * S::kWarps * 32 + threadIdx.x; i < results; i += S::kWarps * 32 * args.splits) {
        const int column = i / S::kRows, r = i % S::kRows, n = first + r;
        float total = 0.0f;
        if (args.splits > 1) {
            for (int s = 0; s < args.splits; ++s) total += *cluster.map_shared_rank(sums + column * kSumPitch + r, s);
        } else {
#pragma unroll
            for (int g = 0; g < KGROUPS; ++g) total += sums[(g * S::kColumns + column) * kSumPitch + r];
        }
        if (n < args.n) {
            if (args.bias != nullptr) total += __bfloat162float(args.bias[n]);
            args.y[(size_t)column * args.n + n] = __float2bfloat16(activate(total, args.activation));
        }
    }
    if (args.splits > 1) cluster.sync();  // the others read this block's sums
}

int odd_stride(int bytes) { return ((bytes + 15) / 16 | 1) * 16; }

template <int FORMAT, int TILES, int ROWGROUPS, int KGROUPS, int RING, int BLOCKS>
int launch(Arguments args, cudaStream_t stream) {
    using S = Shape<TILES, ROWGROUPS, KGROUPS, RING>;
    constexpr int kChunk = FORMAT == kMxfp4 ? 256 : 128;
    const int depth = (args.k / kChunk + args.splits - 1) / args.splits * kChunk;
    args.scale_stride = odd_stride(FORMAT == kMxint8 ? depth / 32 : depth / 8);
    const int bytes = S::kFront + S::kRows * args.scale_stride + depth / 32 * args.m * 68;
    const auto kernel = integer_decode<FORMAT, TILES, ROWGROUPS, KGROUPS, RING, BLOCKS>;
    const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (status != cudaSuccess) return (int)status;
    cudaLaunchAttribute attributes[2];
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = args.overlap;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = args.splits;
    attributes[1].val.clusterDim.y = 1;
    attributes[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(args.splits, (args.n + S::kRows - 1) / S::kRows);
    config.blockDim = dim3(S::kWarps * 32);
    config.dynamicSmemBytes = bytes;
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = 2;
    return (int)cudaLaunchKernelEx(&config, kernel, (const Arguments)args);
}

template <int FORMAT>
int choose(const Arguments& args, int shape, cudaStream_t stream) {
    switch (shape) {
        case 0: return launch<FORMAT, 1, 1, 8, 2, 4>(args, stream);
        case 1: return launch<FORMAT, 1, 1, 8, 3, 2>(args, stream);
        case 2: return launch<FORMAT, 1, 2, 4, 2, 3>(args, stream);
        case 3: return launch<FORMAT, 1, 2, 4, 3, 2>(args, stream);
        case 4: return launch<FORMAT, 1, 1, 4, 3, 4>(args, stream);
        default: return launch<FORMAT, 1, 2, 8, 2, 1>(args, stream);
    }
}

}  // namespace

// `splits` (1, 2, 4 or 8) blocks of a cluster share K, a multiple of 128 (MXFP4: 256). `overlap` allows the launch to begin before
// its predecessor ends, which must not have written the weights. Returns a cudaError_t.
extern "C" int integer_decode_product(
    const void* codes, const void* scales, const void* x, const void* bias, void* y, long long m, long long n,
    long long k, long long splits, long long activation, long long format, long long shape, long long overlap,
    cudaStream_t stream) {
    const Arguments args{
        (const uint8_t*)codes, (const uint8_t*)scales, (const __nv_bfloat16*)x, (const __nv_bfloat16*)bias,
        (__nv_bfloat16*)y, (int)m, (int)n, (int)k, (int)splits, (int)activation, (int)overlap, 0};
    return format == kMxint8 ? choose<kMxint8>(args, (int)shape, stream) : choose<kMxfp4>(args, (int)shape, stream);
}
