// Products of one row of x with weights in MXINT8, MXFP4 or NVFP4: see `integer_decode.h`.
#include "integer_decode.h"

namespace {

template <int FORMAT>
int choose(const Arguments& args, int blocks, int shape, cudaStream_t stream) {
    switch (shape) {
        case 0: return launch<FORMAT, uint8_t, 2, 4, 3, 2>(args, blocks, stream);
        case 1: return launch<FORMAT, uint8_t, 2, 8, 2, 2>(args, blocks, stream);
        case 2: return launch<FORMAT, uint8_t, 4, 4, 3, 1>(args, blocks, stream);
        default: return launch<FORMAT, uint8_t, 1, 8, 2, 4>(args, blocks, stream);
    }
}

}  // namespace

// `splits` (1, 2, 4 or 8) blocks of a cluster share K, a multiple of 128 (E2M1: 256), and `blocks` clusters N, at least 16. `early`:
// weights and scales may be read before the launch's predecessor ends, because nobody writes them. Returns a cudaError_t.
extern "C" int integer_decode_product(
    const void* codes, const void* scales, const void* x, const void* bias, void* y, long long n, long long k,
    long long splits, long long blocks, long long activation, long long format, long long shape, long long early,
    cudaStream_t stream) {
    const Arguments args{
        (const uint8_t*)codes, (const uint8_t*)scales, (const __nv_bfloat16*)x, (const __nv_bfloat16*)bias,
        (__nv_bfloat16*)y, (int)n, (int)k, (int)splits, (int)activation, (int)early, 0};
    switch (format) {
        case kMxint8: return choose<kMxint8>(args, (int)blocks, (int)shape, stream);
        case kMxfp4: return choose<kMxfp4>(args, (int)blocks, (int)shape, stream);
        default: return choose<kNvfp4>(args, (int)blocks, (int)shape, stream);
    }
}
