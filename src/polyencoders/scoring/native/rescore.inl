// The score itself: in float32 with its own rounding bound, then, for what is left, in float64.

// Sums of e^((s - max) / T) (s - max) and e^((s - max) / T): the score is max + the first over the second, and its
// rounding error is relative to the spread of s rather than to s.
struct Softmax {
    float most, least, score;

    // s is followed by room up to a multiple of 16, which is filled with what has no weight.
    Softmax(float* s, int m, float temperature) : most(s[0]), least(s[0]) {
        for (int i = 1; i < m; ++i) most = std::max(most, s[i]), least = std::min(least, s[i]);
        for (int i = m; i % LANES != 0; ++i) s[i] = -1e38f;
        v16 weights = {}, weighted = {};
        for (int i = 0; i < m; i += LANES) {
            const v16 x = load(s + i) - most;
            const v16 weight = exponential(x / temperature);
            weights += weight;
            weighted += weight * x;
        }
        score = most + sum(weighted) / sum(weights);
    }
};

constexpr int DOCUMENTS_AT_ONCE = 4;

// Scores documents against one query; keeps the memory that takes.
struct Rescorer {
    const Documents& documents;
    std::vector<float> rows;
    int stride;
    std::vector<float> products;
    std::vector<double> row;

    Rescorer(const Documents& documents, std::int64_t width, int most_codes)
        : documents(documents), rows(DOCUMENTS_AT_ONCE * width, 0.0f), stride((most_codes + LANES - 1) / LANES * LANES), products(DOCUMENTS_AT_ONCE * stride), row(documents.d) {}

    // An upper bound of a document's score in float32, along all directions of the query: less than the score costs, where
    // there are many codes and few directions.
    float bound_along_directions(const Query& query, std::int64_t document) {
        read_document(documents, document, rows.data());
        float g[MOST_DIRECTIONS];
        for (int l = 0; l < query.r; ++l) g[l] = dot(&query.basis[l * query.width], rows.data(), query.width);
        const float length = std::sqrt(dot(rows.data(), rows.data(), query.width)) * LOOSE;
        const float spread = length * query.whole.slack.spread_length;  // |C g.c| <= |C| |c|
        return bound_by_code(query, query.whole, g, spread, length, 0.0f, -std::numeric_limits<float>::infinity());
    }

    // Bounds of the scores of up to four documents, from float32: above, and where it is asked for, below.
    void bounds(const Query& query, const std::int64_t* which, int count, float* above, float* below) {
        const std::int64_t width = query.width;
        for (int k = 0; k < count; ++k) read_document(documents, which[k], &rows[k * width]);
        float lengths[DOCUMENTS_AT_ONCE];
        for (int k = 0; k < count; ++k) lengths[k] = std::sqrt(dot(&rows[k * width], &rows[k * width], width)) * LOOSE;
        if (count == DOCUMENTS_AT_ONCE) {
            for (int i = 0; i < query.m; ++i) {
                const float* code = &query.rounded[i * width];
                v16 total[DOCUMENTS_AT_ONCE] = {};
                for (std::int64_t j = 0; j < width; j += LANES) {
                    const v16 y = load(code + j);
                    POLYENCODERS_UNROLL for (int k = 0; k < DOCUMENTS_AT_ONCE; ++k) total[k] += y * load(&rows[k * width + j]);
                }
                POLYENCODERS_UNROLL for (int k = 0; k < DOCUMENTS_AT_ONCE; ++k) products[k * stride + i] = sum(total[k]);
            }
        } else {
            for (int k = 0; k < count; ++k)
                for (int i = 0; i < query.m; ++i)
                    products[k * stride + i] = dot(&query.rounded[i * width], &rows[k * width], width);
        }
        // 2^-24 for each of the width / 16 + 7 roundings of an inner product, for those of the query and of a float64
        // document, and for good measure.
        const float unit = (static_cast<float>(width) / LANES + 12) * 6e-8f * query.longest;
        for (int k = 0; k < count; ++k) {
            const Softmax softmax(&products[k * stride], query.m, query.soft);
            const float off = unit * lengths[k] + 1e-37f, range = softmax.most - softmax.least + 2 * off;
            // sum_i |df / ds_i| <= 1 + range / T; the weights are off by 1e-5, the sums by m roundings.
            const float wrong = off * (1 + range / query.soft) + 1e-4f * range + 1e-6f * std::fabs(softmax.most);
            above[k] = softmax.score + wrong;
            if (below != nullptr) below[k] = softmax.score - wrong;
        }
    }

    // The score, in float64 and in an order of operations that depends on nothing but d and the codes.
    double score(const Query& query, std::int64_t document) {
        read_document(documents, document, row.data());
        double s[512], most = -std::numeric_limits<double>::infinity();
        for (int i = 0; i < query.m; ++i) {
            s[i] = dot(&query.codes[i * query.d], row.data(), query.d);
            most = s[i] > most ? s[i] : most;
        }
        double weights = 0, weighted = 0;
        for (int i = 0; i < query.m; ++i) {
            const double weight = std::exp((s[i] - most) / query.temperature);
            weights += weight;
            weighted += weight * (s[i] - most);
        }
        return most + weighted / weights;
    }
};
