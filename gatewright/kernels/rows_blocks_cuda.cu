// Rows to MXINT8 and MXFP8 (E4M3), encoded in registers; see rows_code.h.
#include "rows_code.h"

namespace {

// The shapes of rows_cuda.py: lanes to a row, 4 pieces to a lane, threads to a block.
template <int kKind, int kOutput>
cudaError_t launch(const Arguments& args, long long shape, cudaStream_t stream) {
    switch (shape) {
        case 0: return launch<kKind, 32, 4, 64, 2, 1, kOutput>(args, stream);
        case 1: return launch<kKind, 64, 4, 64, 1, 16, kOutput>(args, stream);
        case 2: return launch<kKind, 128, 4, 128, 1, 8, kOutput>(args, stream);
        case 3: return launch<kKind, 256, 4, 256, 1, 4, kOutput>(args, stream);
        case 4: return launch<kKind, 512, 4, 512, 1, 2, kOutput>(args, stream);
    }
    return cudaErrorInvalidValue;
}

template <int kOutput>
cudaError_t launch(const Arguments& args, long long kind, long long shape, cudaStream_t stream) {
    switch (kind) {
        case kSoftmax: return launch<kSoftmax, kOutput>(args, shape, stream);
        case kLayerNorm: return launch<kLayerNorm, kOutput>(args, shape, stream);
        case kRmsNorm: return launch<kRmsNorm, kOutput>(args, shape, stream);
    }
    return cudaErrorInvalidValue;
}

}  // namespace

// All tensors contiguous, from 16-byte boundaries; `width` a multiple of 32. Returns a cudaError_t.
extern "C" int rows_blocks(
    const void* values, const void* weight, const void* bias, void* codes, void* scales, long long output,
    long long kind, long long rows, long long width, long long shape, float epsilon, cudaStream_t stream) {
    const Arguments args{
        (const __nv_bfloat16*)values, (const __nv_bfloat16*)weight, (const __nv_bfloat16*)bias, codes, (uint8_t*)scales,
        rows, (int)width, epsilon};
    switch (output) {
        case kMxint8: return (int)launch<kMxint8>(args, kind, shape, stream);
        case kMxfp8: return (int)launch<kMxfp8>(args, kind, shape, stream);
    }
    return (int)cudaErrorInvalidValue;
}
