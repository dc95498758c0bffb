// The variant's inner products for a number of query vectors known at run time, at most AT_ONCE.

static void multiply(const std::uint8_t* tile, std::int64_t steps, const std::int8_t* vectors, std::int64_t stride, int count, const std::int32_t* start,
                     v16i (*out)[HALVES]) {
    switch (count) {
        case 1: return multiply_exactly<1>(tile, steps, vectors, stride, start, out);
        case 2: return multiply_exactly<2>(tile, steps, vectors, stride, start, out);
        case 3: return multiply_exactly<3>(tile, steps, vectors, stride, start, out);
        case 4: return multiply_exactly<4>(tile, steps, vectors, stride, start, out);
        case 5: return multiply_exactly<5>(tile, steps, vectors, stride, start, out);
        case 6: return multiply_exactly<6>(tile, steps, vectors, stride, start, out);
        case 7: return multiply_exactly<7>(tile, steps, vectors, stride, start, out);
        default: return multiply_exactly<8>(tile, steps, vectors, stride, start, out);
    }
}
