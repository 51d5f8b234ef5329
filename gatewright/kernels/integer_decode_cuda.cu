// y[1, N] = x[1, K] . w[N, K]^T for weights in MXINT8, MXFP4 or NVFP4, through the int8 tensor cores.
//
// The weights need no decoding, or nearly none: MXINT8 codes are int8 already, and twice an E2M1 value is an integer
// of at most 12 that one byte permutation looks up. x is split, once a block of 32, into two digits of 8 bits in units of
// 2^-13 of the power of two below the block's largest magnitude (exact for elements within 2^-6 of it, and to 2^-14 of
// it for the rest); the digits are columns of the right operand. A block's dot product is exact in int32, starts at the bits of
// 1.5 x 2^23 so that it is a float32 too, and is scaled and added in float32. Infinities in x give NaN.
//
// E2M1: a lane reads a whole block at once, and the eight columns are the two digits of the four blocks that a row's four
// lanes hold, zero for the other lanes' k: each lane then scales one block's sums.
//
// ROWGROUPS x KGROUPS warps share a block: the first split its rows, the second its part of K. The blocks
// of a cluster split K further; sums are added in a fixed order through (distributed) shared memory.
//
// The launch overlaps its predecessor's end. Weights that the caller promised not to write any more (`early`) are
// fetched before the wait on the predecessor, all else after it.
#include <cooperative_groups.h>
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace {

enum Format { kMxint8 = 0, kMxfp4 = 2, kNvfp4 = 3 };
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
__device__ __forceinline__ void copy4(uint32_t to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
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

__device__ __forceinline__ void mma(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// prmt itself: the intrinsic masks the selectors' top bits, which spread a byte's sign.
__device__ __forceinline__ uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
    uint32_t result;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(selector));
    return result;
}

// Twice the magnitudes of E2M1. 4 nibbles, in the low half of `word`, give 4 bytes of these where positive, else of 0: a
// selector's top bit spreads the sign of the byte that it selects.
constexpr uint32_t kSmall = 0x03020100u, kLarge = 0x0C080604u;

// 2^(code - 127) in float32: subnormal at the end, NaN for 255.
__device__ __forceinline__ float power(uint32_t code) {
    const uint32_t bits = max(code << 23, 0x00400000u);
    return __uint_as_float(code == 255 ? 0x7FC00000u : bits);
}

// Two E4M3 codes in float32: exact, NaN included.
__device__ __forceinline__ float2 e4m3_pair(uint32_t codes) {
    uint32_t pair;
    asm("{.reg .b16 low, high;\n mov.b32 {low, high}, %1;\n cvt.rn.f16x2.e4m3x2 %0, low;}" : "=r"(pair) : "r"(codes));
    return __half22float2(*(const __half2*)&pair);
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
    int n, k, splits, activation, early;
    int scale_stride;  // bytes between rows of scales in shared memory: an odd multiple of 16
};

template <int ROWGROUPS, int KGROUPS, int RING>
struct Shape {
    static constexpr int kWarps = ROWGROUPS * KGROUPS;
    static constexpr int kRows = 16 * ROWGROUPS;
    static constexpr int kRing = kWarps * RING * kSlot;
    static constexpr int kSums = KGROUPS * (kRows + 1) * 4;
    static constexpr int kFront = kRing > kSums ? kRing : (kSums + 15) / 16 * 16;  // the queues, later the sums
};

// Digits of a quarter of a block of x, its four lanes together: `digits` is the block's 32 high bytes, then 32 low
// ones; returns the unit.
__device__ __forceinline__ float split_quarter(const uint4& raw, uint8_t* digits, int quarter) {
    uint32_t largest = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) largest = __vmaxu2(largest, (&raw.x)[j] & 0x7FFF7FFFu);
    largest = max(largest & 0xFFFFu, largest >> 16);
    const uint32_t lanes = 0xFu << (threadIdx.x & 28);
    largest = max(largest, __shfl_xor_sync(lanes, largest, 1));
    largest = max(largest, __shfl_xor_sync(lanes, largest, 2));
    const uint32_t exponent = max(largest >> 7, 14u);
    const float factor = __uint_as_float((267u - min(exponent, 254u)) << 23);
    uint2 high, low;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        uint32_t h = 0, l = 0;
#pragma unroll
        for (int b = 0; b < 4; ++b) {
            const uint32_t word = (&raw.x)[j * 2 + (b >> 1)];
            const float value = __uint_as_float(b & 1 ? word & 0xFFFF0000u : word << 16);
            const int q = __float2int_rn(value * factor);
            const int upper = (q + 128) >> 8;
            h |= (uint32_t)(upper & 0xFF) << (8 * b);
            l |= (uint32_t)(q & 0xFF) << (8 * b);
        }
        (&high.x)[j] = h, (&low.x)[j] = l;
    }
    *(uint2*)(digits + quarter * 8) = high;
    *(uint2*)(digits + 32 + quarter * 8) = low;
    return exponent == 255u ? __uint_as_float(0x7FC00000u) : __uint_as_float((exponent - 13u) << 23);
}

// How a row's pieces of 16 bytes are swapped: eight lanes read 16 bytes of two rows together, sixteen 8 bytes of four.
template <int FORMAT>
__device__ __forceinline__ int swap(int row) {
    return FORMAT == kMxint8 ? (row & 3) << 1 : (row & 1) << 2;
}

// Scale `index` of four codes as float32 in the elements' unit; NaN codes are the caller's.
__device__ __forceinline__ float byte_scale(uint32_t four, int index) {
    const uint32_t bits = index == 3 ? four >> 1 : four << (23 - 8 * index);
    return __uint_as_float(max(bits & 0x7F800000u, 0x00400000u)) * 0.015625f;
}

template <int FORMAT, int ROWGROUPS, int KGROUPS, int RING, int BLOCKS>
__global__ void __launch_bounds__(ROWGROUPS * KGROUPS * 32, BLOCKS) integer_decode(const Arguments args) {
    using S = Shape<ROWGROUPS, KGROUPS, RING>;
    constexpr bool kNibbles = FORMAT != kMxint8;
    constexpr int kChunk = kNibbles ? 256 : 128;  // k in 128 bytes of a row: whole lines
    constexpr int kPerChunk = kChunk / 32;
    extern __shared__ __align__(16) uint8_t memory[];
    __shared__ int spoilt[S::kRows];
    __shared__ __align__(16) uint8_t zeros[64];
    __shared__ uint32_t magnitudes[2];
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
    uint8_t* const digits = scales + S::kRows * args.scale_stride;  // [block][high, low][32]
    float* const x_units = (float*)(digits + blocks * 64);  // [block]
    const size_t stride = kNibbles ? args.k / 2 : args.k;
    const int count = (depth / kChunk - kgroup + KGROUPS - 1) / KGROUPS;

    uint8_t* const queue = memory + warp * (RING * kSlot);
    // Eight lanes copy a row's line, four rows at a time. Its pieces of 16 bytes are swapped about so that the lanes
    // that read them together find them in different banks.
    const uint32_t target = shared_address(queue) + (lane >> 3) * kPitch;
    const uint8_t* code[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const int n = min(first + rowgroup * 16 + j * 4 + (lane >> 3), args.n - 1);  // rows past the end are not stored
        code[j] = args.codes + n * stride + (kNibbles ? begin / 2 : begin) + kgroup * 128 + (lane & 7) * 16;
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
    // The scales and x go before most of the queue, which would hold them up.
    constexpr int kScaleBytes = FORMAT == kNvfp4 ? 2 : 1;  // of a block of 32
    const int words = blocks * kScaleBytes / 4;
    if (!args.early) asm volatile("griddepcontrol.wait;" ::: "memory");
    for (int r = warp; r < S::kRows; r += S::kWarps) {
        const size_t n = min(first + r, args.n - 1);
        const uint8_t* const from = args.scales + (n * (args.k / 32) + begin / 32) * kScaleBytes;
        const uint32_t to = shared_address(scales + r * args.scale_stride);
#pragma unroll 4
        for (int w = lane; w < words; w += 32) copy4(to + w * 4, from + w * 4);
    }
    commit();
    fetch(0, 0);
    if (threadIdx.x < S::kRows) spoilt[threadIdx.x] = 0;
    if (kNibbles && threadIdx.x < 16) ((uint32_t*)zeros)[threadIdx.x] = 0;
    if (kNibbles && threadIdx.x < 2) magnitudes[threadIdx.x] = threadIdx.x ? kLarge : kSmall;
    asm volatile("griddepcontrol.wait;" ::: "memory");
    constexpr int kFirst = 4;  // turns whose loads come first
    const int quarters = blocks * 4;
    auto load = [&](int i) {
        return load_ordered((const uint4*)(args.x + begin) + i);
    };
    auto split_x = [&](int i, const uint4& raw) {
        const float unit = split_quarter(raw, digits + (i >> 2) * 64, i & 3);
        if ((i & 3) == 0) x_units[i >> 2] = kNibbles ? unit * 0.5f : unit;
    };
    uint4 raw[kFirst];
#pragma unroll
    for (int j = 0; j < kFirst; ++j) {
        const int i = j * S::kWarps * 32 + threadIdx.x;
        if (i < quarters) raw[j] = load(i);
    }
#pragma unroll
    for (int i = 1; i < RING; ++i) fetch(i, i);
#pragma unroll
    for (int j = 0; j < kFirst; ++j) {
        const int i = j * S::kWarps * 32 + threadIdx.x;
        if (i < quarters) split_x(i, raw[j]);
    }
    for (int i = kFirst * S::kWarps * 32 + threadIdx.x; i < quarters; i += S::kWarps * 32) split_x(i, load(i));
    wait_copies<RING>();
    __syncthreads();
    if (FORMAT == kMxint8) {  // a NaN scale spoils its whole row; the other formats decode it where they use it
        for (int r = warp; r < S::kRows; r += S::kWarps)
            for (int w = lane; w < words; w += 32)
                if (__vcmpeq4(*(const uint32_t*)(scales + r * args.scale_stride + w * 4), 0xFFFFFFFFu)) spoilt[r] = 1;
    }

    float sum[2] = {};
    const uint8_t* const my_scales = scales + (rowgroup * 16 + row) * args.scale_stride;
    const uint8_t* const my_digits = digits + row * 32 + part * 8;
    // Only the lanes whose k are a column's block have digits for it.
    const bool diagonal = row >> 1 == part;
    const uint8_t* my_block = diagonal ? digits + (kgroup * kPerChunk + part) * 64 + (row & 1) * 32 : zeros;
    const int block_step = diagonal ? 256 : 0, skip = diagonal ? (KGROUPS - 1) * kPerChunk * 64 : 0;
    // From shared memory, so that they stay in registers: a permutation takes one constant only.
    const uint32_t small = kNibbles ? ((volatile uint32_t*)magnitudes)[0] : 0;
    const uint32_t large = kNibbles ? ((volatile uint32_t*)magnitudes)[1] : 0;
    int slot = 0;
    for (int i = 0; i < count; ++i) {
        wait_copies<RING - 1>();
        __syncwarp();  // lanes read what others copied
        const uint8_t* const stage = queue + slot * kSlot + row * kPitch;
        const int base = (kgroup + i * KGROUPS) * kPerChunk;
        if constexpr (kNibbles) {
#pragma unroll
            for (int quad = 0; quad < 2; ++quad) {
                const int block = base + quad * 4 + part, piece = (quad * 4 + part) ^ swap<FORMAT>(row);
                uint4 word[2], digit[2];
                digit[0] = *(const uint4*)my_block;
                digit[1] = *(const uint4*)(my_block + 16);
                my_block += block_step;
                float scale[2][2];
                const float unit = x_units[block];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    word[half] = *(const uint4*)(stage + half * 8 * kPitch + piece * 16);
                    const uint8_t* const place = my_scales + half * 8 * args.scale_stride + block * kScaleBytes;
                    if constexpr (FORMAT == kNvfp4) {
                        const float2 both = e4m3_pair(*(const uint16_t*)place);
                        scale[half][0] = both.x * unit, scale[half][1] = both.y * unit;
                    } else {
                        scale[half][0] = power(*place) * unit;
                    }
                }
                // Negative elements have their own sums: no byte is negated.
                int up[4] = {kMagic, kMagic, kMagic, kMagic}, down[4] = {};
#pragma unroll
                for (int w = 0; w < 4; ++w) {
                    const uint32_t b0 = (&digit[w >> 1].x)[(w & 1) * 2], b1 = (&digit[w >> 1].x)[(w & 1) * 2 + 1];
                    uint32_t a[4], n[4];
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const uint32_t v = (&word[half].x)[w], inverse = v ^ 0x88888888u;
                        a[half] = permute(small, large, v), a[2 + half] = permute(small, large, v >> 16);
                        n[half] = permute(small, large, inverse), n[2 + half] = permute(small, large, inverse >> 16);
                    }
                    mma(up, a, b0, b1);
                    mma(down, n, b0, b1);
                    if (w == 3 || (w == 1 && FORMAT == kNvfp4)) {
#pragma unroll
                        for (int half = 0; half < 2; ++half) {
                            const float high = __int_as_float(up[half * 2] - down[half * 2]) - kMagicValue;
                            const float low = __int_as_float(up[half * 2 + 1] - down[half * 2 + 1]) - kMagicValue;
                            sum[half] = fmaf(fmaf(high, 256.0f, low), scale[half][FORMAT == kNvfp4 ? w >> 1 : 0], sum[half]);
                        }
#pragma unroll
                        for (int j = 0; j < 4; ++j) up[j] = kMagic, down[j] = 0;
                    }
                }
            }
            my_block += skip;
        } else {
            uint32_t four[2];
            four[0] = *(const uint32_t*)(my_scales + base);
            four[1] = *(const uint32_t*)(my_scales + 8 * args.scale_stride + base);
#pragma unroll
            for (int b = 0; b < kPerChunk; ++b) {
                const int block = base + b;
                uint32_t a[4];
                float scale[2];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int piece = (b * 2 + (part >> 1)) ^ swap<FORMAT>(row);
                    const uint2 v = *(const uint2*)(stage + half * 8 * kPitch + piece * 16 + (part & 1) * 8);
                    a[half] = v.x, a[2 + half] = v.y;
                    scale[half] = byte_scale(four[half], b);
                }
                uint2 v = make_uint2(0, 0);
                if (row < 2) v = *(const uint2*)(my_digits + block * 64);
                int c[4] = {kMagic, kMagic, kMagic, kMagic};
                mma(c, a, v.x, v.y);
                const float unit = x_units[block];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const float high = __int_as_float(c[half * 2]) - kMagicValue;
                    const float low = __int_as_float(c[half * 2 + 1]) - kMagicValue;
                    sum[half] = fmaf(fmaf(high, 256.0f, low), scale[half] * unit, sum[half]);
                }
            }
        }
        __syncwarp();  // all have read before the slot is filled again
        fetch(i + RING, slot);
        slot = slot == RING - 1 ? 0 : slot + 1;
    }
    wait_copies<0>();

    if (kNibbles) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            sum[half] += __shfl_xor_sync(0xFFFFFFFFu, sum[half], 1);
            sum[half] += __shfl_xor_sync(0xFFFFFFFFu, sum[half], 2);
        }
    }

    // [kgroup][row of the weights]; column 0 of the results is in each row's first lane.
    __syncthreads();
    float* const sums = (float*)memory;
    constexpr int kSumPitch = S::kRows + 1;
    if (part == 0) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int r = rowgroup * 16 + row + half * 8;
            sums[kgroup * kSumPitch + r] = spoilt[r] ? __uint_as_float(0x7FC00000u) : sum[half];
        }
    }
    __syncthreads();
    cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
    if (args.splits > 1) {
        if (KGROUPS > 1 && threadIdx.x < S::kRows) {
            float total = 0.0f;
            for (int g = 0; g < KGROUPS; ++g) total += sums[g * kSumPitch + threadIdx.x];
            sums[threadIdx.x] = total;
        }
        cluster.sync();
    }
    if (split == 0 && threadIdx.x < S::kRows) {
        const int n = first + threadIdx.x;
        float total = 0.0f;
        if (args.splits > 1) {
            for (int s = 0; s < args.splits; ++s) total += *cluster.map_shared_rank(sums + threadIdx.x, s);
        } else {
#pragma unroll
            for (int g = 0; g < KGROUPS; ++g) total += sums[g * kSumPitch + threadIdx.x];
        }
        if (n < args.n) {
            if (args.bias != nullptr) total += __bfloat162float(args.bias[n]);
            args.y[n] = __float2bfloat16(activate(total, args.activation));
        }
    }
    if (args.splits > 1) cluster.sync();  // the others read this block's sums
}

int odd_stride(int bytes) { return ((bytes + 15) / 16 | 1) * 16; }

template <int FORMAT, int ROWGROUPS, int KGROUPS, int RING, int BLOCKS>
int launch(Arguments args, cudaStream_t stream) {
    using S = Shape<ROWGROUPS, KGROUPS, RING>;
    constexpr int kChunk = FORMAT == kMxint8 ? 128 : 256;
    const int depth = (args.k / kChunk + args.splits - 1) / args.splits * kChunk;
    args.scale_stride = odd_stride(depth / (FORMAT == kNvfp4 ? 16 : 32));
    const int bytes = S::kFront + S::kRows * args.scale_stride + depth / 32 * 68;
    const auto kernel = integer_decode<FORMAT, ROWGROUPS, KGROUPS, RING, BLOCKS>;
    const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (status != cudaSuccess) return (int)status;
    cudaLaunchAttribute attributes[2];
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
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
        case 0: return launch<FORMAT, 1, 8, 2, 4>(args, stream);
        case 1: return launch<FORMAT, 1, 8, 3, 2>(args, stream);
        case 2: return launch<FORMAT, 2, 4, 2, 3>(args, stream);
        case 3: return launch<FORMAT, 2, 4, 3, 2>(args, stream);
        case 4: return launch<FORMAT, 1, 4, 3, 4>(args, stream);
        default: return launch<FORMAT, 2, 8, 2, 2>(args, stream);
    }
}

}  // namespace

// `splits` (1, 2, 4 or 8) blocks of a cluster share K, a multiple of 128 (E2M1: 256). `early`: weights and scales
// may be read before the launch's predecessor ends, because nobody writes them. Returns a cudaError_t.
extern "C" int integer_decode_product(
    const void* codes, const void* scales, const void* x, const void* bias, void* y, long long n, long long k,
    long long splits, long long activation, long long format, long long shape, long long early,
    cudaStream_t stream) {
    const Arguments args{
        (const uint8_t*)codes, (const uint8_t*)scales, (const __nv_bfloat16*)x, (const __nv_bfloat16*)bias,
        (__nv_bfloat16*)y, (int)n, (int)k, (int)splits, (int)activation, (int)early, 0};
    switch (format) {
        case kMxint8: return choose<kMxint8>(args, (int)shape, stream);
        case kMxfp4: return choose<kMxfp4>(args, (int)shape, stream);
        default: return choose<kNvfp4>(args, (int)shape, stream);
    }
}
