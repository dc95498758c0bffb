// Upper bounds of the score, sixteen documents at a time, from 8-bit inner products (derived in docs/scoring.md).
//
// With x_i = s_i - mean(s), X = max x_i and V = mean(x_i^2):
//
//     f(s) - mean(s)  <=  min( X,  (V / T) (e^a - 1) / a )  <=  min( X,  (V / T) / (1 - a / 2) ),   a = X / T < 2
//
// the first because a weighted mean is at most the largest, the second because d/dt of the mean under softmax(t x / T)
// is the variance under it, which is at most e^(ta) V.

constexpr float LOOSE = 1.0001f;     // rounding of the gain in float32, relative
constexpr float ROUNDING = 3e-5f;    // rounding of everything else, relative to |y| |c|

inline v16 upper_bound(const Query& query, const Slack& slack, v16 mean, v16 spread, v16 most, v16 length, v16 error) {
    mean += slack.mean_left * length + slack.mean_length * error;
    spread += slack.spread_left * length + slack.spread_length * error;  // |x|, so V = spread^2 / m
    most += slack.most_left * length + slack.most_length * error;
    most = smaller(most, spread);
    const v16 a = most / query.soft;
    const v16 by_variance = spread * spread / (static_cast<float>(query.m) * query.soft * (1.0f - 0.5f * a));
    const v16 gain = a < splat(1.75f) ? smaller(most, by_variance) : most;
    return mean + gain * LOOSE + ROUNDING * query.longest * (length + error);
}

// A document that may be among the best.
struct Candidate {
    std::int64_t document;
    float bound;
};

// What is added to the score of each document, [padded n]; null: nothing. The bounds are of the score alone.
struct Addends {
    static constexpr float SLIP = 4e-7f;  // more than three roundings in float32, relative to the largest number
    const float* of = nullptr;

    float at(std::int64_t document) const { return of ? of[document] : 0.0f; }
    v16 from(std::int64_t start) const { return of ? load(of + start) : v16{}; }
    // What 16 scores have to reach for the sum to reach the threshold: at most `threshold - addend`.
    v16 limits(float threshold, std::int64_t start) const {
        if (!of) return splat(threshold);
        const v16 addend = load(of + start), size = larger(addend, -addend) + std::fabs(threshold);
        return threshold - addend - SLIP * size;
    }
    // Bounds of the sum, given those of the score.
    float above(float bound, std::int64_t document) const {
        return of ? bound + of[document] + SLIP * (std::fabs(bound) + std::fabs(of[document])) : bound;
    }
    float below(float bound, std::int64_t document) const {
        return of ? bound + of[document] - SLIP * (std::fabs(bound) + std::fabs(of[document])) : bound;
    }
};

inline bool all_below(v16 bound, v16 threshold) {
    const v16i below = bound < threshold;
    std::uint64_t words[8], together = ~std::uint64_t{0};
    std::memcpy(words, &below, sizeof words);
    for (std::uint64_t word : words) together &= word;
    return together == ~std::uint64_t{0};
}

// Inner products of a tile with vectors [from, to), in as few passes as registers allow.
static void multiply_all(const Tiles& tiles, std::int64_t first, const EightBit& vectors, std::int64_t d, int from, int to,
                         v16i (*out)[HALVES]) {
    for (int i = from; i < to; i += AT_ONCE)
        multiply(tiles.bytes + first / TILE * tile_bytes(d), vectors.steps, vectors.at(i), vectors.stride(i),
                 std::min(AT_ONCE, to - i), &vectors.start[i], out + i);
}

// 16 documents along the first r directions: b.c8, their mean code, and |C b.c8|^2.
struct Seen {
    v16 b[MOST_IN_8_BITS], mean, squares;
    v16 scale, error, length;

    Seen(const Tiles& tiles, std::int64_t start)
        : scale(load(tiles.scale + start)), error(load(tiles.error + start)), length(load(tiles.length + start)) {}

    void look(const Query& query, const Look& look, const v16i (*products)[HALVES], int half) {
        for (int l = 0; l < look.r; ++l) b[l] = to_float(products[l][half]) * (scale * query.directions.scale[l]);
        mean = squares = v16{};
        for (int l = 0; l < look.r; ++l) mean += b[l] * look.mean[l];
        for (int a = 0; a < look.r; ++a) {
            v16 axis = {};
            for (int l = a; l < look.r; ++l) axis += b[l] * look.principal[a * look.r + l];
            squares += axis * axis;
        }
    }
    v16 bound(const Query& query, const Look& look) const {
        const v16 spread = root(squares);
        return upper_bound(query, look.slack, mean, spread, spread * look.reach, length, error);
    }
    // Whether all 16 are dismissed, by the first of the two bounds alone: that takes neither a root nor a division.
    bool far_below(const Query& query, const Look& look, v16 threshold) const {
        const Slack& slack = look.slack;
        const v16 known = mean + slack.mean_left * length + slack.mean_length * error + ROUNDING * query.longest * (length + error);
        const v16 room = (threshold - known) / LOOSE - (slack.most_left * length + slack.most_length * error);
        const v16 reached = squares * (look.reach * look.reach * LOOSE);
        return all_below(room > v16{} ? reached - room * room : splat(1.0f), v16{});
    }
};

// The bound of one document, b.c as given, with the largest code looked up rather than bounded. `spread` is at least
// |C b.c|. Once no code to come can bring the score to the threshold, the rest are not looked at: the result is then below it.
static float bound_by_code(const Query& query, const Look& look, const float* b, float spread, float length, float error,
                           float threshold) {
    float mean = 0;
    for (int l = 0; l < look.r; ++l) mean += look.mean[l] * b[l];
    Slack slack = look.slack;
    const float others = slack.most_left * length + slack.most_length * error;
    slack.most_left = slack.most_length = 0;  // counted for each code below
    const float known = mean + slack.mean_left * length + slack.mean_length * error + ROUNDING * query.longest * (length + error);
    bool each = true;
    constexpr int WIDE = BLOCK / LANES;  // a sum waits for the one before it
    float most = 0;                      // the largest of numbers whose mean is 0 is at least 0
    v16 squares = {};
    for (int i = 0; i < query.padded_m; i += BLOCK) {
        if (i > 0 && !look.reaches.empty()) {
            const float reach = look.reaches[i / BLOCK] * spread * LOOSE + others;
            if (reach <= most || known + reach * LOOSE < threshold) {
                each = false;
                continue;
            }
        }
        const int count = std::min(WIDE, (query.padded_m - i) / LANES);
        v16 x[WIDE] = {}, top = {};
        if (count == WIDE)
            for (int l = 0; l < look.r; ++l) POLYENCODERS_UNROLL for (int k = 0; k < WIDE; ++k)
                    x[k] += load(&look.beyond[l * query.padded_m + i + k * LANES]) * b[l];
        else
            for (int l = 0; l < look.r; ++l)
                for (int k = 0; k < count; ++k) x[k] += load(&look.beyond[l * query.padded_m + i + k * LANES]) * b[l];
        for (int k = 0; k < count; ++k) {
            squares += x[k] * x[k];
            top = larger(top, x[k] + load(&look.left[i + k * LANES]) * length + load(&query.apart[i + k * LANES]) * error);
        }
        most = std::max(most, largest(top));
    }
    if (each) spread = std::min(spread, std::sqrt(sum(squares)) * LOOSE);
    return upper_bound(query, slack, splat(mean), splat(spread), splat(most), splat(length), splat(error))[0];
}

// Documents of the selection's tiles [first, last) of which the bound along the directions of the look, and the addend,
// reach the threshold: first by a ball, then code by code. Returns how many the ball left.
static std::int64_t screen_low_rank(const Query& query, const Look& look, const Tiles& tiles, const Selection& selection,
                                    const Addends& addends, std::int64_t first, std::int64_t last, float threshold,
                                    std::vector<Candidate>& found) {
    v16i products[MOST_IN_8_BITS][HALVES];
    std::int64_t left = 0;
    for (std::int64_t place = first; place < last; ++place) {
        const std::int64_t at = selection.tile(place) * TILE;
        const std::uint32_t wanted = selection.documents(selection.tile(place));
        if (wanted == 0) continue;
        multiply_all(tiles, at, query.directions, query.d, 0, look.r, products);
        for (int half = 0; half < HALVES; ++half) {
            const std::int64_t start = at + half * LANES;
            Seen seen(tiles, start);
            seen.look(query, look, products, half);
            const v16 limits = addends.limits(threshold, start);
            if (seen.far_below(query, look, limits)) continue;
            const v16 bound = seen.bound(query, look);
            if (all_below(bound, limits)) continue;
            for (int lane = 0; lane < LANES; ++lane) {
                if (bound[lane] < limits[lane] || !(wanted >> (half * LANES + lane) & 1)) continue;
                ++left;
                float b[MOST_IN_8_BITS];
                for (int l = 0; l < look.r; ++l) b[l] = seen.b[l][lane];
                const float spread = std::sqrt(seen.squares[lane]);
                const float closer = bound_by_code(query, look, b, spread, seen.length[lane], seen.error[lane], limits[lane]);
                if (!(closer < limits[lane]))
                    found.push_back({start + lane, addends.above(std::min(bound[lane], closer), start + lane)});
            }
        }
    }
    return left;
}

// Every code in 8 bits: for codes that share no few directions.
struct AllCodes {
    EightBit codes;
    Slack slack;

    explicit AllCodes(const Query& query) : codes(query.m, AT_ONCE, query.d) {
        const std::int64_t d = query.d;
        std::vector<double> values(d), rests(query.m * d), rest_mean(d, 0.0);
        for (int i = 0; i < query.m; ++i) {
            std::copy_n(&query.codes[i * d], d, values.data());
            codes.set(i, values.data(), d);
            for (std::int64_t j = 0; j < d; ++j) rest_mean[j] += (rests[i * d + j] = query.codes[i * d + j] - values[j]) / query.m;
        }
        double total = 0, mean = 0, most = 0;
        for (std::int64_t j = 0; j < d; ++j) mean += rest_mean[j] * rest_mean[j];
        for (int i = 0; i < query.m; ++i) {
            double squares = 0;
            for (std::int64_t j = 0; j < d; ++j) {
                const double x = rests[i * d + j] - rest_mean[j];
                squares += x * x;
            }
            total += squares;
            most = squares > most ? squares : most;
        }
        slack = query.whole.slack;  // the lengths of the codes are the same
        slack.mean_left = upwards(std::sqrt(mean));
        slack.spread_left = upwards(std::sqrt(total));
        slack.most_left = upwards(std::sqrt(most));
    }
};

static void screen_all_codes(const Query& query, const AllCodes& all, const Tiles& tiles, const Selection& selection,
                             const Addends& addends, std::int64_t first, std::int64_t last, float threshold,
                             std::vector<Candidate>& found) {
    v16i products[AT_ONCE][HALVES];
    for (std::int64_t place = first; place < last; ++place) {
        const std::int64_t at = selection.tile(place) * TILE;
        const std::uint32_t wanted = selection.documents(selection.tile(place));
        if (wanted == 0) continue;
        v16 reference[HALVES], total[HALVES] = {}, squares[HALVES] = {}, most[HALVES] = {};
        for (int i = 0; i < query.m; i += AT_ONCE) {
            const int group = std::min(AT_ONCE, query.m - i);
            multiply(tiles.bytes + at / TILE * tile_bytes(query.d), all.codes.steps, all.codes.at(i), all.codes.stride(i), group,
                     &all.codes.start[i], products);
            for (int half = 0; half < HALVES; ++half) {
                const v16 scale = load(tiles.scale + at + half * LANES);
                for (int j = 0; j < group; ++j) {
                    const v16 s = to_float(products[j][half]) * (scale * all.codes.scale[i + j]);
                    // Sums of differences to the first code: small numbers, of which the mean's square can be taken.
                    if (i + j == 0) reference[half] = s;
                    const v16 x = s - reference[half];
                    total[half] += x, squares[half] += x * x, most[half] = larger(most[half], x);
                }
            }
        }
        for (int half = 0; half < HALVES; ++half) {
            const std::int64_t start = at + half * LANES;
            const v16 average = total[half] / static_cast<float>(query.m);
            const v16 spread = root(larger(squares[half] * LOOSE - average * total[half], v16{}));
            const v16 bound = upper_bound(query, all.slack, reference[half] + average, spread, most[half] - average,
                                          load(tiles.length + start), load(tiles.error + start));
            const v16 limits = addends.limits(threshold, start);
            if (all_below(bound, limits)) continue;
            for (int lane = 0; lane < LANES; ++lane)
                if (!(bound[lane] < limits[lane]) && (wanted >> (half * LANES + lane) & 1))
                    found.push_back({start + lane, addends.above(bound[lane], start + lane)});
        }
    }
}
