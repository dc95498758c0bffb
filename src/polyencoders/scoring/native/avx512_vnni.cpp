// AVX-512 with VNNI: one instruction multiplies and sums 64 bytes.
#include "includes.h"

#ifdef POLYENCODERS_X86
POLYENCODERS_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")
namespace polyencoders {
namespace avx512_vnni {

constexpr int LEVELS = 127;
constexpr int AHEAD = 2048;  // bytes that are asked for before they are needed

// Inner products of R query vectors with the 32 documents of a tile.
template <int R>
static void multiply_exactly(const std::uint8_t* tile, std::int64_t steps, const std::int8_t* vectors, std::int64_t stride,
                             const std::int32_t* start, v16i (*out)[HALVES]) {
    __m512i total[R][HALVES];
    POLYENCODERS_UNROLL for (int i = 0; i < R; ++i) total[i][0] = total[i][1] = _mm512_set1_epi32(start[i]);
    for (std::int64_t step = 0; step < steps; ++step) {
        const __m512i a = _mm512_loadu_si512(tile + step * 128), b = _mm512_loadu_si512(tile + step * 128 + 64);
        _mm_prefetch(reinterpret_cast<const char*>(tile) + step * 128 + AHEAD, _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(tile) + step * 128 + AHEAD + 64, _MM_HINT_T0);
        POLYENCODERS_UNROLL for (int i = 0; i < R; ++i) {
            std::int32_t four;
            std::memcpy(&four, vectors + step * stride + i * STEP, sizeof four);
            const __m512i query = _mm512_set1_epi32(four);
            total[i][0] = _mm512_dpbusd_epi32(total[i][0], a, query);
            total[i][1] = _mm512_dpbusd_epi32(total[i][1], b, query);
        }
    }
    POLYENCODERS_UNROLL for (int i = 0; i < R; ++i)
        POLYENCODERS_UNROLL for (int half = 0; half < HALVES; ++half) _mm512_storeu_si512(&out[i][half], total[i][half]);
}

#include "multiply.inl"
#include "kernel.inl"

static bool usable() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

}  // namespace avx512_vnni
POLYENCODERS_END

const Variant AVX512_VNNI = {"avx512-vnni", avx512_vnni::usable, avx512_vnni::prepare, avx512_vnni::search,
                               avx512_vnni::estimate, avx512_vnni::bounds};
}  // namespace polyencoders
#else
namespace polyencoders {
const Variant AVX512_VNNI = {"avx512-vnni", [] { return false; }, nullptr, nullptr, nullptr, nullptr};
}
#endif
