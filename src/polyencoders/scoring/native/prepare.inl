// Documents to 8-bit tiles, with what the rounding lost.
//
// c8 = scale * round(c / scale), scale = max |c_j| / 127. Kept beside it: |c - c8| and |c8|, from which every bound of
// the screen follows (docs/scoring.md).

struct PreparedTile {
    static constexpr double SMALLEST = 1e-30;  // below, a document is kept as zeros: all of it is error

    // False when a number of the document is not finite or its length is above `longest`.
    static bool row(const Documents& documents, std::int64_t i, double longest, double* values, const MutableTiles& out) {
        const std::int64_t d = documents.d;
        std::uint8_t* bytes = out.bytes + i / TILE * tile_bytes(d) + i % TILE * STEP;
        double largest = 0, squares = 0;
        if (i < documents.n) {
            read_document(documents, i, values);
            for (std::int64_t j = 0; j < d; ++j) {
                const double size = std::fabs(values[j]);
                largest = size > largest ? size : largest;
                squares += values[j] * values[j];
            }
            if (!(squares <= longest * longest)) return false;  // not for NaN, nor for infinity
        } else {
            for (std::int64_t j = 0; j < d; ++j) values[j] = 0;
        }
        const float scale = largest > SMALLEST ? static_cast<float>(largest / 127.0) : 0.0f;
        const double inverse = scale > 0 ? 1.0 / scale : 0.0;
        double lost = 0, kept = 0;
        for (std::int64_t j = 0; j < steps_of(d) * STEP; ++j) {
            const double value = j < d ? values[j] : 0.0;
            const double code = nearest(value * inverse, 127);
            const double rounded = code * scale;
            lost += (value - rounded) * (value - rounded);
            kept += rounded * rounded;
            bytes[j / STEP * STEP * TILE + j % STEP] = static_cast<std::uint8_t>(static_cast<int>(code) + BIAS);
        }
        out.scale[i] = scale;
        out.error[i] = upwards(std::sqrt(lost));
        out.length[i] = upwards(std::sqrt(kept));
        return true;
    }
};

// Returns the first document that cannot be prepared, or -1.
static std::int64_t prepare(const Documents& documents, const MutableTiles& out, double longest, int threads) {
    const std::int64_t rows = padded(documents.n), block = 1024;
    std::atomic<std::int64_t> bad{rows};
    parallel(threads, (rows + block - 1) / block, [&](int, std::int64_t b) {
        std::vector<double> values(static_cast<std::size_t>(documents.d));
        for (std::int64_t i = b * block; i < rows && i < (b + 1) * block; ++i) {
            if (PreparedTile::row(documents, i, longest, values.data(), out)) continue;
            std::int64_t first = bad.load();
            while (i < first && !bad.compare_exchange_weak(first, i)) {
            }
            return;
        }
    });
    return bad.load() < rows ? bad.load() : -1;
}
