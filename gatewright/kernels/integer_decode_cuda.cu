// Products of one row of x with weights in MXINT8: see `integer_decode.h`.
#include "integer_decode.h"

// `splits` (1, 2, 4 or 8) blocks of a cluster share K, a multiple of 128, and `blocks` clusters N, at least 16. `tiles`, `stages`: see
// `choose`. `early`: weights and scales may be read before the launch's predecessor ends, because nobody writes them. Returns a
// cudaError_t.
extern "C" int integer_decode_product(
    const void* codes, const void* scales, const void* x, const void* bias, void* y, long long n, long long k,
    long long splits, long long blocks, long long activation, long long tiles, long long stages, long long early,
    cudaStream_t stream) {
    const Arguments args{
        (const uint8_t*)codes, (const uint8_t*)scales, (const __nv_bfloat16*)x, (const __nv_bfloat16*)bias,
        (__nv_bfloat16*)y, (int)n, (int)k, (int)splits, (int)activation, (int)early, 32, 4};
    return choose<kMxint8, uint8_t, true>(args, (int)blocks, (int)tiles, (int)stages, stream);
}
