// Attention of one query token over a key-value cache in MXINT8 or MXFP8, for Hopper GPUs; head depth 128, up to 4 query heads
// to a key-value head.
//
// A warp takes tiles of 16 tokens. Scores: the keys' codes are the tensor cores' left operand (rows: tokens, k: a block of 32), as
// they are (integers) or as fp16 (floats), the query the right one (see attention_elements.h); a block's sum then takes the key's
// scale. Weighted values: fp16 products with the values transposed (rows: depth, k: tokens), which costs nothing: a lane
// reads 16 bytes of four tokens, and a byte permutation pairs two tokens' elements as the fragment wants them. The
// values' scales go into the weights: a token has a weight for each of the depth's four blocks, and a head four of
// the eight columns, of which every row of the product keeps its own block's. Each column has a power of two (`gain`) that keeps its
// weights inside fp16: the largest between 1 and 2^15 once the first tokens are seen, so that they are rounded to 2^-12
// of themselves, or to 2^-25 of that largest. Every warp keeps its own queue in shared memory, which the copy engine
// fills (a request for 2 KB instead of 128 by the lanes).
//
// Several blocks share a head's tokens and leave (maximum, sum, weighted values); the last to finish combines
// them in order, so that results do not vary. (Clusters would do without memory, but leave processors idle: 124
// clusters of 4 fit where 132 x 4 blocks do.)
#include <cfloat>
#include <utility>

#include "attention_elements.h"
#include "box_code.h"

namespace {

constexpr int kWarps = 4, kRing = 3;
constexpr int kEntry = kDepth + 2;     // maximum, sum, 128 values
constexpr int kTile = 16 * kDepth;     // codes of 16 tokens, a line each: a box, swapped about against bank conflicts
constexpr int kAhead = 2;              // tiles in flight that the query's loads wait for: more would hold them up
constexpr int kScales = 2 * 16 * 4;    // their keys' scales and their values'
constexpr int kCodes = kWarps * kRing * 2 * kTile;
constexpr int kQueues = kCodes + kWarps * kRing * kScales;

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
    const __half2 pair = __floats2half2_rn(low, high);
    return *(const uint32_t*)&pair;
}
// The largest over the rows of a fragment.
__device__ __forceinline__ float largest_of_rows(float value) {
#pragma unroll
    for (int distance = 4; distance < 32; distance *= 2)
        value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFu, value, distance));
    return value;
}

// A set's running softmax: this lane's head, and its two columns, the blocks 2 (part mod 2) and the next.
struct Softmax {
    float top = -FLT_MAX, sum = 0.0f;       // what scores are held against, within 2^8 of the largest
    float gain[2] = {0x1p127f, 0x1p127f};  // what weights times their scale are multiplied by, for fp16

    // The weights of tokens row and row + 8, whose values have these scales, as fp16 for both columns. Whether they fit.
    __device__ __forceinline__ bool weigh(
        const float (&score)[2], const uint32_t (&scales)[2], float (&weight)[2], uint32_t (&packed)[2]) const {
        const float above = fmaxf(score[0] - top, score[1] - top);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            weight[half] = exp2_fast(score[half] - top);
            packed[half] = pack(weight[half] * gain[0] * twice_power(scales[half], 0),
                                weight[half] * gain[1] * twice_power(scales[half], 1));
        }
        uint32_t larger;  // not NaN, which fits
        asm("max.f16x2 %0, %1, %2;" : "=r"(larger) : "r"(packed[0]), "r"(packed[1]));
        return above <= 8.0f && (larger + 0x08000800u & 0x80008000u) == 0;  // exponents below 2^15
    }

    // Makes room for these scores and scales; what is summed so far is to be multiplied by `shrink`.
    __device__ __forceinline__ void make_room(const float (&score)[2], const uint32_t (&scales)[2], float (&shrink)[2]) {
        const float before = top;
        top = fmaxf(top, largest_of_rows(fmaxf(score[0], score[1])));
        const float shift = before - top;
        sum *= exp2_fast(shift);
#pragma unroll
        for (int column = 0; column < 2; ++column) {
            float reach[2];
#pragma unroll
            for (int half = 0; half < 2; ++half)
                reach[half] = score[half] - top + (float)((int)(scales[half] >> (8 * column) & 0xFF) - 126);
            const float room = floorf(8.0f - largest_of_rows(fmaxf(reach[0], reach[1])));
            const float old = (float)(int)(__float_as_uint(gain[column]) >> 23) - 127.0f;
            const float exponent = fminf(fminf(room, 127.0f), floorf(old - shift));
            gain[column] = __uint_as_float((uint32_t)((int)exponent + 127) << 23);
            shrink[column] = exp2_fast(shift + (exponent - old));
        }
    }
};

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
        const float share = exp2_fast(parts[i * pitch] - top);
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

template <int FORMAT, int SETS>
__global__ void __launch_bounds__(kWarps * 32, SETS == 1 ? 4 : 3) attention_decode(
    const Arguments args, const __grid_constant__ CUtensorMap keys, const __grid_constant__ CUtensorMap values) {
    extern __shared__ __align__(1024) uint8_t memory[];
    __shared__ uint64_t arrivals[kWarps * kRing];
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
    if (lane < kRing) begin_barrier(arrival + lane * 8);
    publish_barriers();
    __syncwarp();
    // Brings the warp's first tiles to the L2 cache while the previous launch ends. What that may still write there is no
    // matter: the L2 cache is where all multiprocessors meet.
    if (lane < 2 * kRing) {
        const int tile = begin + warp + (lane >> 1) * kWarps;
        if (tile < end) prefetch_box(lane & 1 ? values : keys, 0, (int)base + tile * 16);
    }
    wait_for_previous_launch();

    // A warp's slot: 16 tokens' codes by the copy engine, their scales by the lanes.
    auto fetch = [&](int tile, int slot) {
        if (tile < end) {
            const int first = tile * 16;
            if (lane == 0) {
                const uint32_t stage = shared_address(queue + slot * (2 * kTile)), barrier = arrival + slot * 8;
                expect(barrier, 2 * kTile);
                copy_box(stage, keys, 0, (int)base + first, barrier);
                copy_box(stage + kTile, values, 0, (int)base + first, barrier);
            }
            // A token past the end has the last one's scale, and whatever codes lie there.
            const uint8_t* scales = lane < 16 ? args.key_scales : args.value_scales;
            copy_small<4>(shared_address(scale_queue + slot * kScales) + lane * 4,
                          scales + (base + min(first + (lane & 15), args.length - 1)) * 4);
        }
        commit();
    };
#pragma unroll
    for (int i = 0; i < kAhead; ++i) fetch(begin + warp + i * kWarps, i);
    Query<FORMAT, SETS> query;
    query.load(args.query + (size_t)head * args.group * kDepth, args.group, args.scale);
#pragma unroll
    for (int i = kAhead; i < kRing; ++i) fetch(begin + warp + i * kWarps, i);
    let_next_launch_begin();  // not before: its copies would hold up the query too
    Softmax softmax[SETS];
    float weighted[SETS][8][4] = {};
    const uint32_t keys_at = place_of_keys(lane);
    int slot = 0;
    uint32_t phase = 0;
    for (int tile = begin + warp; tile < end; tile += kWarps) {
        wait_copies<kRing - 1>();
        __syncwarp();  // the scales were copied by other lanes
        await(arrival + slot * 8, phase);
        uint8_t* const stage = queue + slot * (2 * kTile);
        const uint8_t* const scales = scale_queue + slot * kScales;
        const int inside = args.length - tile * 16;
        if (inside < 16) {  // codes past the end may be NaN; nothing is copied to this slot any more
            for (int at = inside * kDepth + lane * 16; at < kTile; at += 512)
                *(uint4*)(stage + at) = *(uint4*)(stage + kTile + at) = make_uint4(0, 0, 0, 0);
            __syncwarp();
        }

        float score[SETS][2];
        query.score(shared_address(stage) + keys_at, {*(const uint32_t*)(scales + row * 4), *(const uint32_t*)(scales + row * 4 + 32)}, score);
        if (inside < 16) {
#pragma unroll
            for (int set = 0; set < SETS; ++set) {
                if (row >= inside) score[set][0] = -INFINITY;
                if (row + 8 >= inside) score[set][1] = -INFINITY;
            }
        }

        const uint8_t* const own = scales + 64 + row * 4 + (part & 1) * 2;
        const uint32_t powers[2] = {*(const uint16_t*)own, *(const uint16_t*)(own + 32)};
        float weight[SETS][2];
        uint32_t packed[SETS][2], b[SETS][2];
        bool fits = true;
#pragma unroll
        for (int set = 0; set < SETS; ++set) fits &= softmax[set].weigh(score[set], powers, weight[set], packed[set]);
        if (!__all_sync(0xFFFFFFFFu, fits)) {
#pragma unroll
            for (int set = 0; set < SETS; ++set) {
                float shrink[2];
                softmax[set].make_room(score[set], powers, shrink);
#pragma unroll
                for (int d = 0; d < 8; ++d)
#pragma unroll
                    for (int i = 0; i < 4; ++i) weighted[set][d][i] *= shrink[i & 1];
                softmax[set].weigh(score[set], powers, weight[set], packed[set]);
            }
        }
#pragma unroll
        for (int set = 0; set < SETS; ++set) {
            softmax[set].sum += weight[set][0] + weight[set][1];
            b[set][0] = transpose8x8(packed[set][0]);  // tokens 0 .. 7
            b[set][1] = transpose8x8(packed[set][1]);  // tokens 8 .. 15
        }

        const uint4* even = (const uint4*)(stage + kTile + part * 2 * kDepth + (row ^ part << 1) * 16);
        const uint4* odd = (const uint4*)(stage + kTile + (part * 2 + 1) * kDepth + (row ^ (part << 1 | 1)) * 16);
        const uint4 word[4] = {even[0], odd[0], even[64], odd[64]};  // tokens 0, 1, 8, 9 from 2 part
#pragma unroll
        for (int d = 0; d < 8; ++d) {
            const int w = d >> 1;
            const uint32_t selector = d & 1 ? 0x7362u : 0x5140u;
            uint32_t a[4];
            decode_pairs<FORMAT>(permute((&word[0].x)[w], (&word[1].x)[w], selector), a[0], a[1]);
            decode_pairs<FORMAT>(permute((&word[2].x)[w], (&word[3].x)[w], selector), a[2], a[3]);
#pragma unroll
            for (int set = 0; set < SETS; ++set) mma(weighted[set][d], a, b[set][0], b[set][1]);
        }
        __syncwarp();  // all lanes have read the scales before the slot is filled again
        fetch(tile + kRing * kWarps, slot);
        if (++slot == kRing) slot = 0, phase ^= 1;
    }
    wait_copies<0>();

    // [warp][query head]: the warps' parts, then the blocks', are combined in order. This lane's rows are of block row / 2.
    __syncthreads();
    float* const entries = (float*)memory;
#pragma unroll
    for (int set = 0; set < SETS; ++set) {
        float sum = softmax[set].sum;
#pragma unroll
        for (int distance = 4; distance < 32; distance *= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, distance);
        float* const entry = entries + (warp * SETS * 2 + set * 2 + (part >> 1)) * kEntry;
        if ((part & 1) != row >> 2) continue;
        if ((row & 3) == 0) entry[0] = softmax[set].top, entry[1] = sum;
        const bool second = row & 2;
        const float unit = 0.5f / (second ? softmax[set].gain[1] : softmax[set].gain[0]);
#pragma unroll
        for (int d = 0; d < 8; ++d) {
            entry[2 + row * 16 + d * 2] = (second ? weighted[set][d][1] : weighted[set][d][0]) * unit;
            entry[2 + row * 16 + d * 2 + 1] = (second ? weighted[set][d][3] : weighted[set][d][2]) * unit;
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < args.group * kDepth; i += kWarps * 32) {
        const int column = i / kDepth, d = i % kDepth;
        const size_t query_head = (size_t)head * args.group + column;
        combine(entries + column * kEntry, SETS * 2 * kEntry, kWarps, d,
                args.splits == 1 ? args.out + query_head * kDepth : nullptr,
                args.partial + (query_head * args.splits + split) * kEntry);
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
        const size_t query_head = (size_t)head * args.group + column;
        combine(args.partial + query_head * args.splits * kEntry, kEntry, args.splits, d, args.out + query_head * kDepth,
                nullptr);
    }
}

}  // namespace

// `splits` blocks share a head's tokens; `format`: a CacheFormat. Returns a cudaError_t.
extern "C" int attention_decode_cache(
    const void* query, const void* key_codes, const void* key_scales, const void* value_codes,
    const void* value_scales, void* out, void* partial, void* arrived, long long heads, long long length,
    long long capacity, long long group, long long splits, long long format, float scale, cudaStream_t stream) {
    using Kernel = void (*)(Arguments, CUtensorMap, CUtensorMap);
    static const Kernel kernels[3][2] = {
        {attention_decode<kInteger, 1>, attention_decode<kInteger, 2>},
        {attention_decode<kE4m3, 1>, attention_decode<kE4m3, 2>},
        {attention_decode<kE5m2, 1>, attention_decode<kE5m2, 2>}};
    const Kernel kernel = kernels[format][group > 2];
    const Arguments args{
        (const __nv_bfloat16*)query, (const uint8_t*)key_scales, (const uint8_t*)value_scales, (__nv_bfloat16*)out,
        (float*)partial, (int*)arrived, (int)length, (int)capacity, (int)group, (int)splits, scale};
    CUtensorMap keys, values;
    for (const auto& [map, codes] : {std::pair(&keys, key_codes), std::pair(&values, value_codes)}) {
        const int status = describe(*map, codes, heads * capacity, kDepth, 16, kDepth, true);
        if (status != 0) return status;
    }
    static_assert(kWarps * 4 * kEntry * 4 <= kQueues);
    const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kQueues);
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
    return (int)cudaLaunchKernelEx(&config, kernel, args, keys, values);
}
