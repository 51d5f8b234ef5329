// The copy engine's boxes: rectangles of a matrix of bytes, brought to shared memory by one instruction, whose arrival a barrier
// counts in bytes.
#pragma once
#include <cstdint>
#include <cuda.h>
#include <cuda_runtime.h>

namespace {

// Brings the box whose first byte is in that column and row; what lies outside the matrix is zero.
__device__ __forceinline__ void copy_box(uint32_t to, const CUtensorMap& map, int column, int row, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(&map), "r"(column), "r"(row), "r"(barrier) : "memory");
}
// The same to the L2 cache.
__device__ __forceinline__ void prefetch_box(const CUtensorMap& map, int column, int row) {
    asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global.tile [%0, {%1, %2}];" ::"l"(&map), "r"(column), "r"(row) : "memory");
}
__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

__device__ __forceinline__ void begin_barrier(uint32_t barrier) {
    asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(barrier) : "memory");
}
// After the last `begin_barrier`, before the copy engine is told of it.
__device__ __forceinline__ void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
// What ordinary stores have written, here or in a launch that has ended, before the copy engine reads it.
__device__ __forceinline__ void publish_to_boxes() { asm volatile("fence.proxy.async.global;" ::: "memory"); }
__device__ __forceinline__ void expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void await(uint32_t barrier, uint32_t phase) {
    asm volatile("{.reg .pred done;\n again:\n mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n @!done bra again;\n}"
                 ::"r"(barrier), "r"(phase) : "memory");
}

// A map of `rows` rows of `bytes` bytes in boxes; with `swapped`, whose boxes are 128 bytes wide, the pieces of 16 bytes of row
// r lie at piece ^ (r mod 8). Returns a cudaError_t.
int describe(CUtensorMap& map, const void* start, long long rows, long long bytes, int box_rows, int box_bytes, bool swapped,
             CUtensorMapL2promotion promotion = CU_TENSOR_MAP_L2_PROMOTION_NONE) {
    using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                                const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
    static Encode encode = nullptr;
    if (encode == nullptr) {
        void* found = nullptr;
        cudaDriverEntryPointQueryResult query;
        const cudaError_t status =
            cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &query);
        if (status != cudaSuccess) return (int)status;
        if (query != cudaDriverEntryPointSuccess) return (int)cudaErrorNotSupported;
        encode = (Encode)found;
    }
    const cuuint64_t sizes[2] = {(cuuint64_t)bytes, (cuuint64_t)rows}, pitch[1] = {(cuuint64_t)bytes};
    const cuuint32_t box[2] = {(cuuint32_t)box_bytes, (cuuint32_t)box_rows}, steps[2] = {1, 1};
    const CUresult result =
        encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void*>(start), sizes, pitch, box, steps,
               CU_TENSOR_MAP_INTERLEAVE_NONE, swapped ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE, promotion,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return (int)(result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue);
}

}  // namespace
