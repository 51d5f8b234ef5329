// Attention of one query token over a key-value cache in MXINT8, for Hopper GPUs; head depth 128, up to 4 query
// heads to a key-value head.
//
// A warp takes tiles of 16 tokens. Scores come from the int8 tensor cores: the keys' codes are the left operand as
// they are (rows: tokens, k: a block of 32), the query's two 8-bit digits the columns (see integer_decode_cuda.cu). The
// weighted values are bfloat16 products with the values transposed (rows: depth, k: tokens), which costs nothing: a lane
// reads 16 bytes of four tokens, and a byte permutation pairs two tokens' elements as the fragment wants them; they
// become bfloat16 exactly, their scale included. Every warp keeps its own queue in shared memory, which the copy engine
// fills (a request for 2 KB instead of 128 by the lanes).
//
// Several blocks share a head's tokens and leave (maximum, sum, weighted values); the last to finish combines
// them in order, so that results do not vary. (Clusters would do without memory, but leave processors idle: 124
// clusters of 4 fit where 132 x 4 blocks do.)
#include <cstdint>
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace {

constexpr int kDepth = 128, kWarps = 4, kRing = 3, kHeads = 4;
constexpr int kEntry = kDepth + 2;     // maximum, sum, 128 values
constexpr int kTile = 16 * kDepth;     // codes of 16 tokens
constexpr int kScales = 2 * 16 * 4;    // their keys' scales and their values'
constexpr int kCodes = kWarps * kRing * 2 * kTile;
constexpr int kQueues = kCodes + kWarps * kRing * kScales;

__device__ __forceinline__ uint32_t fma2(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
__device__ __forceinline__ uint32_t mul2(uint32_t a, uint32_t b) { return fma2(a, b, 0x80008000u); }
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return (uint32_t)__cvta_generic_to_shared(pointer);
}
// The copy engine brings 16 tokens, a line each, their 16-byte pieces swapped about (piece ^ token mod 8) so that lanes
// that read them together find them in different banks.
__device__ __forceinline__ void copy_tile(uint32_t to, const CUtensorMap* map, int token, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(map), "r"(0), "r"(token), "r"(barrier) : "memory");
}
__device__ __forceinline__ void expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void await(uint32_t barrier, uint32_t phase) {
    uint32_t done = 0;
    while (!done)
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done) : "r"(barrier), "r"(phase) : "memory");
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
    const uint8_t* key_scales;   // [batch x shared, capacity, 4]
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

__global__ void __launch_bounds__(kWarps * 32, 4) attention_decode(
    const Arguments args, const __grid_constant__ CUtensorMap keys, const __grid_constant__ CUtensorMap values) {
    extern __shared__ __align__(1024) uint8_t memory[];
    __shared__ uint64_t arrivals[kWarps * kRing];
    asm volatile("griddepcontrol.launch_dependents;");
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int row = lane >> 2, part = lane & 3;
    const int split = blockIdx.x, head = blockIdx.y;
    const size_t base = (size_t)head * args.capacity;
    const int tiles = (args.length + 15) / 16;
    const int begin = (int)((long long)tiles * split / args.splits);
    const int end = (int)((long long)tiles * (split + 1) / args.splits);
    uint8_t* const queue = memory + warp * (kRing * 2 * kTile);
    uint8_t* const scale_queue = memory + kCodes + warp * (kRing * kScales);
    const uint32_t arrival = shared_address(arrivals + warp * kRing);
    if (lane < kRing) asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(arrival + lane * 8) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    __syncwarp();
    asm volatile("griddepcontrol.wait;" ::: "memory");

    // A warp's slot: 16 tokens' codes by the copy engine, their scales by the lanes.
    auto fetch = [&](int tile, int slot) {
        if (tile < end) {
            const int first = tile * 16;
            if (lane == 0) {
                const uint32_t stage = shared_address(queue + slot * (2 * kTile)), barrier = arrival + slot * 8;
                expect(barrier, 2 * kTile);
                copy_tile(stage, &keys, (int)base + first, barrier);
                copy_tile(stage + kTile, &values, (int)base + first, barrier);
            }
            // A token past the end has the last one's scale, and whatever codes lie there.
            const uint8_t* scales = lane < 16 ? args.key_scales : args.value_scales;
            copy4(shared_address(scale_queue + slot * kScales) + lane * 4,
                  scales + (base + min(first + (lane & 15), args.length - 1)) * 4);
        }
        commit();
    };
#pragma unroll
    for (int i = 0; i < kRing; ++i) fetch(begin + warp + i * kWarps, i);

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

    float weighted[8][4] = {};  // columns 2 h are query head h, the odd ones nothing
    float largest = -INFINITY, sum = 0.0f;
    int slot = 0;
    uint32_t phase = 0;
    for (int tile = begin + warp; tile < end; tile += kWarps) {
        asm volatile("cp.async.wait_group %0;" ::"n"(kRing - 1) : "memory");
        __syncwarp();  // the scales were copied by other lanes
        await(arrival + slot * 8, phase);
        const uint8_t* stage = queue + slot * (2 * kTile);
        const uint8_t* scales = scale_queue + slot * kScales;

        float score[2] = {};
        const uint32_t powers[2] = {*(const uint32_t*)(scales + row * 4), *(const uint32_t*)(scales + row * 4 + 32)};
#pragma unroll
        for (int block = 0; block < 4; ++block) {
            const int piece = (block * 2 + (part >> 1)) ^ row;
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

        const uint4* even = (const uint4*)(stage + kTile + part * 2 * kDepth + (row ^ part << 1) * 16);
        const uint4* odd = (const uint4*)(stage + kTile + (part * 2 + 1) * kDepth + (row ^ (part << 1 | 1)) * 16);
        const uint4 word[4] = {even[0], odd[0], even[64], odd[64]};  // tokens 0, 1, 8, 9 from 2 part
        uint32_t power[2];
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
            const uint8_t* place = scales + 64 + (part * 2 + pair * 8) * 4 + (row >> 1);
            power[pair] = mul2(power_bits(place[0]) | power_bits(place[4]) << 16, 0x3C803C80u);
        }
#pragma unroll
        for (int d = 0; d < 8; ++d) {
            const int w = d >> 1;
            const uint32_t first = d & 1 ? 0x6622u : 0x4400u, second = d & 1 ? 0x7733u : 0x5511u;
            const uint32_t s0 = (&word[0].x)[w], s1 = (&word[1].x)[w], s2 = (&word[2].x)[w], s3 = (&word[3].x)[w];
            mma(weighted[d], decode_pair(__byte_perm(s0, s1, first), power[0]),
                decode_pair(__byte_perm(s0, s1, second), power[0]), decode_pair(__byte_perm(s2, s3, first), power[1]),
                decode_pair(__byte_perm(s2, s3, second), power[1]), b0, b1);
        }
        __syncwarp();  // all lanes have read the scales before the slot is filled again
        fetch(tile + kRing * kWarps, slot);
        if (++slot == kRing) slot = 0, phase ^= 1;
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

// The copy engine's view of [tokens, 128] codes: boxes of 16 tokens.
bool describe(CUtensorMap* map, const void* codes, long long tokens) {
    using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                                const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
    static Encode encode = nullptr;
    if (encode == nullptr) {
        void* found = nullptr;
        cudaDriverEntryPointQueryResult state;
        if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &state) !=
                cudaSuccess || state != cudaDriverEntryPointSuccess)
            return false;
        encode = (Encode)found;
    }
    const cuuint64_t extents[2] = {kDepth, (cuuint64_t)tokens}, pitch[1] = {kDepth};
    const cuuint32_t box[2] = {kDepth, 16}, steps[2] = {1, 1};
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void*>(codes), extents, pitch, box, steps,
                  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace

// `splits` blocks share a head's tokens. Returns a cudaError_t.
extern "C" int attention_decode_mxint8(
    const void* query, const void* key_codes, const void* key_scales, const void* value_codes,
    const void* value_scales, void* out, void* partial, void* arrived, long long heads, long long length,
    long long capacity, long long group, long long splits, float scale, cudaStream_t stream) {
    const Arguments args{
        (const __nv_bfloat16*)query, (const uint8_t*)key_scales, (const uint8_t*)value_scales, (__nv_bfloat16*)out,
        (float*)partial, (int*)arrived, (int)length, (int)capacity, (int)group, (int)splits, scale};
    CUtensorMap keys, values;
    if (!describe(&keys, key_codes, heads * capacity) || !describe(&values, value_codes, heads * capacity))
        return (int)cudaErrorInvalidValue;
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
    return (int)cudaLaunchKernelEx(&config, attention_decode, args, keys, values);
}
