// Attention of one query token over a key-value cache in MXINT8, for Hopper GPUs; head depth 128, up to 4 query
// heads to a key-value head.
//
// A warp takes tiles of 16 tokens. Scores come from the int8 tensor cores: the keys' codes are the left operand as
// they are (rows: tokens, k: a block of 32), the query's two 8-bit digits the columns (see integer_decode_cuda.cu). The
// weighted values are bfloat16 products with the values transposed (rows: depth, k: tokens), which costs nothing: a lane
// reads 16 bytes of four tokens, and a byte permutation pairs two tokens' elements as the fragment wants them; they
// become bfloat16 exactly, their scale included. Every warp keeps its own queue of asynchronous copies in shared memory.
//
// Several blocks share a head's tokens and leave (maximum, sum, weighted values); the last to finish combines
// them in order, so that results do not vary. (Clusters would do without memory, but leave processors idle: 124
// clusters of 4 fit where 132 x 4 blocks do.)
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace {

constexpr int kDepth = 128, kWarps = 4, kRing = 3, kHeads = 4;
constexpr int kEntry = kDepth + 2;     // maximum, sum, 128 values
constexpr int kStage = 2048 + 2048 + 128;  // keys, values, scales of 16 tokens
constexpr int kQueues = kWarps * kRing * kStage;

__device__ __forceinline__ uint32_t fma2(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
__device__ __forceinline__ uint32_t mul2(uint32_t a, uint32_t b) { return fma2(a, b, 0x80008000u); }
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
__device__ __forceinline__ void mma(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                    uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// Every sum starts at the bits of 1.5 x 2^23, so that the result is a float32 too.
__device__ __forceinline__ void mma_int8(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                         uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(0x4B400000));
}
__device__ __forceinline__ uint32_t transpose8x8(uint32_t value) {
    uint32_t result;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(value));
    return result;
}
__device__ __forceinline__ float exp2_fast(float value) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
    return result;
}
__device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t result;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}

// 2^(code - 133), the block's scale for integer elements, as bfloat16 bits of one factor: 2^(code - 127).
__device__ __forceinline__ uint32_t power_bits(uint32_t code) {
    uint32_t bits = code << 7;
    bits = code == 0 ? 0x0040u : bits;
    return code == 255 ? 0x7FC0u : bits;
}

// The two signed bytes in the low and high halves of `halves` (bits 0-7 and 16-23) times 2^-6 and `scale`.
__device__ __forceinline__ uint32_t decode_pair(uint32_t halves, uint32_t scale) {
    // (a & b) | c in one instruction: 128 + the low 7 bits, and 128 or, for a negative byte, 256.
    uint32_t low, offset;
    asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(low) : "r"(halves), "r"(0x007F007Fu), "r"(0x43004300u));
    asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(offset) : "r"(halves), "r"(0x00800080u), "r"(0x43004300u));
    return mul2(fma2(offset, 0xBF80BF80u, low), scale);
}

// 2^(code - 133) in float32, NaN for 255; 0 for the smallest, which no score feels.
__device__ __forceinline__ float key_scale(uint32_t code) {
    const uint32_t bits = code << 23;
    return __uint_as_float(code == 255 ? 0x7FC00000u : bits) * 0.015625f;
}

struct Arguments {
    const __nv_bfloat16* query;  // [batch x heads, 128]
    const uint8_t* key_codes;    // [batch x shared, capacity, 128]
    const uint8_t* key_scales;   // [batch x shared, capacity, 4]
    const uint8_t* value_codes;
    const uint8_t* value_scales;
    __nv_bfloat16* out;
    float* partial;  // [batch x heads, splits, kEntry]
    int* arrived;    // [batch x shared], zero before and after
    int length, capacity, group, splits;
    float scale;  // of the scores, log2(e) included
};

// Element `d` of `count` parts, `pitch` floats apart: the result, or a part again.
__device__ __forceinline__ void combine(const float* parts, int pitch, int count, int d, __nv_bfloat16* out, float* part) {
    float top = -INFINITY, value = 0.0f, total = 0.0f;
    for (int i = 0; i < count; ++i) top = fmaxf(top, parts[i * pitch]);
    for (int i = 0; i < count; ++i) {
        const float share = top == -INFINITY ? 0.0f : exp2_fast(parts[i * pitch] - top);
        value += share * parts[i * pitch + 2 + d];
        total += share * parts[i * pitch + 1];
    }
    if (out != nullptr) {
        out[d] = __float2bfloat16(value / total);
    } else {
        part[2 + d] = value;
        if (d == 0) part[0] = top, part[1] = total;
    }
}

__global__ void __launch_bounds__(kWarps * 32, 4) attention_decode(const Arguments args) {
    extern __shared__ __align__(16) uint8_t memory[];
    asm volatile("griddepcontrol.launch_dependents;");
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int row = lane >> 2, part = lane & 3;
    const int split = blockIdx.x, head = blockIdx.y;
    const size_t base = (size_t)head * args.capacity;
    const int tiles = (args.length + 15) / 16;
    const int begin = (int)((long long)tiles * split / args.splits);
    const int end = (int)((long long)tiles * (split + 1) / args.splits);
    uint8_t* const queue = memory + warp * (kRing * kStage);
    asm volatile("griddepcontrol.wait;" ::: "memory");

    // Columns 2 h and 2 h + 1 are the high and low digits of query head h: this lane's column is `row`. Its 8 elements of
    // each block of 32, in units of 2^-13 of the power of two below the block's largest.
    uint32_t q[4][2] = {};
    float unit[4];  // of query head `part`, whose scores this lane gets
    {
        const int member = row >> 1;
#pragma unroll
        for (int block = 0; block < 4; ++block) {
            uint4 raw = make_uint4(0, 0, 0, 0);
            if (member < args.group)
                raw = *(const uint4*)(args.query + ((size_t)head * args.group + member) * kDepth + block * 32 + part * 8);
            uint32_t top = 0;
#pragma unroll
            for (int j = 0; j < 4; ++j) top = max(top, max((&raw.x)[j] & 0x7FFFu, (&raw.x)[j] >> 16 & 0x7FFFu));
            top = max(top, __shfl_xor_sync(0xFFFFFFFFu, top, 1));
            top = max(top, __shfl_xor_sync(0xFFFFFFFFu, top, 2));
            const uint32_t exponent = max(top >> 7, 14u);
            const float factor = __uint_as_float((267u - min(exponent, 254u)) << 23);
#pragma unroll
            for (int b = 0; b < 8; ++b) {
                const uint32_t word = (&raw.x)[b >> 1];
                const int value = __float2int_rn(__uint_as_float(b & 1 ? word & 0xFFFF0000u : word << 16) * factor);
                const int digit = row & 1 ? value : (value + 128) >> 8;
                q[block][b >> 2] |= (uint32_t)(digit & 0xFF) << (8 * (b & 3));
            }
            const float own = __uint_as_float(exponent == 255 ? 0x7FC00000u : (exponent - 13u) << 23);
            unit[block] = __shfl_sync(0xFFFFFFFFu, own, part * 8) * args.scale;
        }
    }

    auto fetch = [&](int tile, int slot) {
        if (tile < end) {
            const uint32_t stage = shared_address(queue + slot * kStage);
            const int first = tile * 16, last = args.length - 1;  // tokens past the end are read as the last
            // Eight lanes copy a token's line; its pieces of 16 bytes are swapped about so that the lanes that
            // read them together find them in different banks.
            const int piece = lane & 7, quarter = lane >> 3;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const size_t from = (base + min(first + j * 4 + quarter, last)) * kDepth + piece * 16;
                const uint32_t to = stage + (j * 4 + quarter) * kDepth;
                copy16(to + (piece ^ quarter << 1) * 16, args.key_codes + from);
                copy16(to + 2048 + (piece ^ ((j * 2 + (quarter >> 1)) & 3) << 1) * 16, args.value_codes + from);
            }
            const uint8_t* scales = lane < 16 ? args.key_scales : args.value_scales;
            copy4(stage + 4096 + lane * 4, scales + (base + min(first + (lane & 15), last)) * 4);
        }
        commit();
    };

    float weighted[8][4] = {};  // columns 2 h are query head h, the odd ones nothing
    float largest = -INFINITY, sum = 0.0f;
    int slot = 0;
#pragma unroll
    for (int i = 0; i < kRing; ++i) fetch(begin + warp + i * kWarps, i);
    for (int tile = begin + warp; tile < end; tile += kWarps) {
        asm volatile("cp.async.wait_group %0;" ::"n"(kRing - 1) : "memory");
        __syncwarp();  // the scales were copied by other lanes
        const uint8_t* stage = queue + slot * kStage;
        const uint8_t* scales = stage + 4096;

        float score[2] = {};
        const uint32_t powers[2] = {*(const uint32_t*)(scales + row * 4), *(const uint32_t*)(scales + row * 4 + 32)};
#pragma unroll
        for (int block = 0; block < 4; ++block) {
            const int piece = (block * 2 + (part >> 1)) ^ (row & 3) << 1;
            const uint8_t* place = stage + row * kDepth + piece * 16 + (part & 1) * 8;
            const uint2 top = *(const uint2*)place, bottom = *(const uint2*)(place + 8 * kDepth);
            int c[4];
            mma_int8(c, top.x, bottom.x, top.y, bottom.y, q[block][0], q[block][1]);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float high = __int_as_float(c[half * 2]) - 12582912.0f;
                const float low = __int_as_float(c[half * 2 + 1]) - 12582912.0f;
                const float factor = key_scale(powers[half] >> (8 * block) & 0xFF) * unit[block];
                score[half] = fmaf(fmaf(high, 256.0f, low), factor, score[half]);
            }
        }
        if (tile * 16 + row >= args.length) score[0] = -INFINITY;
        if (tile * 16 + row + 8 >= args.length) score[1] = -INFINITY;

        float higher = fmaxf(score[0], score[1]);
#pragma unroll
        for (int distance = 4; distance < 32; distance *= 2)
            higher = fmaxf(higher, __shfl_xor_sync(0xFFFFFFFFu, higher, distance));
        if (__any_sync(0xFFFFFFFFu, higher > largest)) {
            higher = fmaxf(higher, largest);
            const float shrink = exp2_fast(largest - higher);
            sum *= shrink;
            largest = higher;
#pragma unroll
            for (int d = 0; d < 8; ++d) weighted[d][0] *= shrink, weighted[d][2] *= shrink;
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            score[half] = exp2_fast(score[half] - largest);
            sum += score[half];
        }
        const uint32_t b0 = transpose8x8(pack(score[0], 0.0f));  // tokens 0 .. 7
        const uint32_t b1 = transpose8x8(pack(score[1], 0.0f));  // tokens 8 .. 15

        const uint4* mine = (const uint4*)(stage + 2048 + part * 2 * kDepth + (row ^ part << 1) * 16);
        const uint4 word[4] = {mine[0], mine[8], mine[64], mine[72]};  // tokens 0, 1, 8, 9 from 2 part
        uint32_t power[2];
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
            const uint8_t* place = scales + 64 + (part * 2 + pair * 8) * 4 + (row >> 1);
            power[pair] = mul2(power_bits(place[0]) | power_bits(place[4]) << 16, 0x3C803C80u);
        }
#pragma unroll
        for (int d = 0; d < 8; ++d) {
            const int w = d >> 1;
            const uint32_t even = d & 1 ? 0x6622u : 0x4400u, odd = d & 1 ? 0x7733u : 0x5511u;
            const uint32_t s0 = (&word[0].x)[w], s1 = (&word[1].x)[w], s2 = (&word[2].x)[w], s3 = (&word[3].x)[w];
            mma(weighted[d], decode_pair(__byte_perm(s0, s1, even), power[0]),
                decode_pair(__byte_perm(s0, s1, odd), power[0]), decode_pair(__byte_perm(s2, s3, even), power[1]),
                decode_pair(__byte_perm(s2, s3, odd), power[1]), b0, b1);
        }
        __syncwarp();  // all lanes have read the scales before the slot is filled again
        fetch(tile + kRing * kWarps, slot);
        slot = slot == kRing - 1 ? 0 : slot + 1;
    }
    asm volatile("cp.async.wait_group 0;" ::: "memory");

    // [warp][query head]: the warps' parts, then the blocks', are combined in order.
    __syncthreads();
    float* const entries = (float*)memory;
#pragma unroll
    for (int distance = 4; distance < 32; distance *= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, distance);
    float* const entry = entries + (warp * kHeads + part) * kEntry;
    if (row == 0) entry[0] = largest, entry[1] = sum;
#pragma unroll
    for (int d = 0; d < 8; ++d) {
        entry[2 + row * 16 + d * 2] = weighted[d][0];
        entry[2 + row * 16 + d * 2 + 1] = weighted[d][2];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < args.group * kDepth; i += kWarps * 32) {
        const int column = i / kDepth, d = i % kDepth;
        const size_t query = (size_t)head * args.group + column;
        combine(entries + column * kEntry, kHeads * kEntry, kWarps, d, args.splits == 1 ? args.out + query * kDepth : nullptr,
                args.partial + (query * args.splits + split) * kEntry);
    }
    if (args.splits == 1) return;
    __shared__ int last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(args.arrived + head, 1) == args.splits - 1;
        if (last) args.arrived[head] = 0;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    for (int i = threadIdx.x; i < args.group * kDepth; i += kWarps * 32) {
        const int column = i / kDepth, d = i % kDepth;
        const size_t query = (size_t)head * args.group + column;
        combine(args.partial + query * args.splits * kEntry, kEntry, args.splits, d, args.out + query * kDepth, nullptr);
    }
}

}  // namespace

// `splits` blocks share a head's tokens. Returns a cudaError_t.
extern "C" int attention_decode_mxint8(
    const void* query, const void* key_codes, const void* key_scales, const void* value_codes,
    const void* value_scales, void* out, void* partial, void* arrived, long long heads, long long length,
    long long capacity, long long group, long long splits, float scale, cudaStream_t stream) {
    const Arguments args{
        (const __nv_bfloat16*)query, (const uint8_t*)key_codes, (const uint8_t*)key_scales, (const uint8_t*)value_codes,
        (const uint8_t*)value_scales, (__nv_bfloat16*)out, (float*)partial, (int*)arrived, (int)length, (int)capacity,
        (int)group, (int)splits, scale};
    static_assert(kWarps * kHeads * kEntry * 4 <= kQueues);
    const cudaError_t status =
        cudaFuncSetAttribute(attention_decode, cudaFuncAttributeMaxDynamicSharedMemorySize, kQueues);
    if (status != cudaSuccess) return (int)status;
    cudaLaunchAttribute overlap;
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)splits, (unsigned)heads);
    config.blockDim = dim3(kWarps * 32);
    config.dynamicSmemBytes = kQueues;
    config.stream = stream;
    config.attrs = &overlap;
    config.numAttrs = 1;
    return (int)cudaLaunchKernelEx(&config, attention_decode, args);
}
