// AVX2: 32 bytes at a time, in two instructions. Queries have 63 levels, so that the sums of pairs fit 16 bits:
// 2 * 255 * 63 < 2^15.
#include "includes.h"

#ifdef POLYENCODERS_X86
POLYENCODERS_BEGIN("avx2,fma")
namespace polyencoders {
namespace avx2 {

constexpr int LEVELS = 63;

template <int R>
static void multiply_exactly(const std::uint8_t* tile, std::int64_t steps, const std::int8_t* vectors, std::int64_t stride,
                             const std::int32_t* start, v16i (*out)[HALVES]) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (int half = 0; half < HALVES; ++half) {
        for (int quarter = 0; quarter < 2; ++quarter) {
            __m256i total[R];
            POLYENCODERS_UNROLL for (int i = 0; i < R; ++i) total[i] = _mm256_set1_epi32(start[i]);
            for (std::int64_t step = 0; step < steps; ++step) {
                const __m256i documents = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile + step * 128 + half * 64 + quarter * 32));
                POLYENCODERS_UNROLL for (int i = 0; i < R; ++i) {
                    std::int32_t four;
                    std::memcpy(&four, vectors + step * stride + i * STEP, sizeof four);
                    const __m256i pairs = _mm256_maddubs_epi16(documents, _mm256_set1_epi32(four));
                    total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(pairs, ones));
                }
            }
            POLYENCODERS_UNROLL for (int i = 0; i < R; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(&out[i][half]) + quarter, total[i]);
        }
    }
}

#include "multiply.inl"
#include "kernel.inl"

static bool usable() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace avx2
POLYENCODERS_END

const Variant AVX2 = {"avx2", avx2::usable, avx2::prepare, avx2::search, avx2::estimate, avx2::bounds};
}  // namespace polyencoders
#else
namespace polyencoders {
const Variant AVX2 = {"avx2", [] { return false; }, nullptr, nullptr, nullptr, nullptr};
}
#endif
