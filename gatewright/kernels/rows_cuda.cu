// Rows to bfloat16; see rows_code.h.
#include "rows_code.h"

namespace {

// The shapes of rows_cuda.py: lanes to a row, pieces to a lane, threads to a block.
template <int kKind>
cudaError_t launch(const Arguments& args, long long shape, cudaStream_t stream) {
    switch (shape) {
        case 0: return launch<kKind, 32, 4, 64, 2, 1, kBfloat16>(args, stream);
        case 1: return launch<kKind, 128, 2, 128, 2, 12, kBfloat16>(args, stream);
        case 2: return launch<kKind, 256, 2, 256, 2, 6, kBfloat16>(args, stream);
        case 3: return launch<kKind, 128, 4, 128, 1, 8, kBfloat16>(args, stream);
        case 4: return launch<kKind, 256, 4, 256, 1, 4, kBfloat16>(args, stream);
        case 5: return launch<kKind, 512, 4, 512, 1, 2, kBfloat16>(args, stream);
        case 6: return launch<kKind, 256, 8, 256, 0, kKind == kSoftmax ? 2 : 3, kBfloat16>(args, stream);
        case 7: return launch<kKind, 512, 2, 512, 2, 3, kBfloat16>(args, stream);
    }
    return cudaErrorInvalidValue;
}

}  // namespace

// All tensors contiguous, from 16-byte boundaries. Returns a cudaError_t.
extern "C" int rows_bfloat16(
    const void* values, const void* weight, const void* bias, void* out, long long kind, long long rows,
    long long width, long long shape, float epsilon, cudaStream_t stream) {
    const Arguments args{
        (const __nv_bfloat16*)values, (const __nv_bfloat16*)weight, (const __nv_bfloat16*)bias, out, nullptr, rows,
        (int)width, epsilon};
    switch (kind) {
        case kSoftmax: return (int)launch<kSoftmax>(args, shape, stream);
        case kLayerNorm: return (int)launch<kLayerNorm>(args, shape, stream);
        case kRmsNorm: return (int)launch<kRmsNorm>(args, shape, stream);
    }
    return (int)cudaErrorInvalidValue;
}
