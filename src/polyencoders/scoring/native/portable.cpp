// Any processor: plain loops, in which compilers find the vector instructions there are.
#include "includes.h"

namespace polyencoders {
namespace portable {

constexpr int LEVELS = 127;

template <int R>
static void multiply_exactly(const std::uint8_t* tile, std::int64_t steps, const std::int8_t* vectors, std::int64_t stride,
                             const std::int32_t* start, v16i (*out)[HALVES]) {
    for (int half = 0; half < HALVES; ++half) {
        std::int32_t total[R][LANES];
        for (int i = 0; i < R; ++i)
            for (int lane = 0; lane < LANES; ++lane) total[i][lane] = start[i];
        for (std::int64_t step = 0; step < steps; ++step)
            for (int i = 0; i < R; ++i) {
                const std::int8_t* query = vectors + step * stride + i * STEP;
                for (int lane = 0; lane < LANES; ++lane) {
                    const std::uint8_t* document = tile + step * 128 + half * 64 + lane * STEP;
                    total[i][lane] += document[0] * query[0] + document[1] * query[1] + document[2] * query[2] + document[3] * query[3];
                }
            }
        for (int i = 0; i < R; ++i) std::memcpy(&out[i][half], total[i], sizeof out[i][half]);
    }
}

#include "multiply.inl"
#include "kernel.inl"

static bool usable() { return true; }

}  // namespace portable

const Variant PORTABLE = {"portable", portable::usable, portable::prepare, portable::search, portable::estimate, portable::bounds};
}  // namespace polyencoders
