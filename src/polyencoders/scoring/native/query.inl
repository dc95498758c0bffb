// A query made ready: its codes, and the few 8-bit directions by which the screen looks at a document.
//
// A code is `y_i = sum_l (a_l + C_il) b_l + z_i`, where `b` are 8-bit vectors, the directions, that are multiplied with the
// documents, `a` are the coefficients of the mean code, `C` what each code has beyond it, and `z_i` what r directions leave
// out. That is an identity for any choice of b, a and C: a poor choice makes the bounds of the screen wide, never wrong.
// Names and derivation as in docs/scoring.md.

constexpr int LOOKS[] = {4, 8, 16};  // directions along which the screen looks at a document
constexpr int MOST_IN_8_BITS = 16;   // the most of them
constexpr int MOST_DIRECTIONS = 24;  // directions in all: those beyond are for float32
constexpr float LEFT_OUT = 0.03f;    // directions are added until max |z_i| is at most this share of max |y_i|
constexpr int POWER_ITERATIONS = 1;  // from the code that lacks most: more of them cost more than they gain
constexpr int BLOCK = 4 * LANES;     // codes whose inner products are summed side by side
constexpr int AT_ONCE = 8;           // vectors multiplied in one pass over a tile

// 8-bit vectors, `scale * bytes`, laid out as the products read them: [group][step][vector of the group][4].
struct EightBit {
    int count, group;
    std::int64_t steps;
    std::vector<std::int8_t> bytes;
    std::vector<std::int32_t> start;  // -BIAS * sum of the bytes: takes the documents' bias out again
    std::vector<float> scale;

    EightBit(int count, int group, std::int64_t d)
        : count(count), group(group), steps(steps_of(d)), bytes(static_cast<std::size_t>(count * steps * STEP)), start(count), scale(count) {}

    std::int64_t stride(int i) const {  // bytes from one step to the next, in the group of vector i
        const int first = i / group * group;
        return (count - first < group ? count - first : group) * STEP;
    }
    const std::int8_t* at(int i) const { return bytes.data() + i / group * group * steps * STEP + i % group * STEP; }

    // Rounds `values` to vector i; gives the rounded values back in their place.
    void set(int i, double* values, std::int64_t d) {
        double largest = 0;
        for (std::int64_t j = 0; j < d; ++j) largest = std::fabs(values[j]) > largest ? std::fabs(values[j]) : largest;
        const float unit = largest > 1e-30 ? static_cast<float>(largest / LEVELS) : 0.0f;
        const double inverse = unit > 0 ? 1.0 / unit : 0.0;
        std::int8_t* into = const_cast<std::int8_t*>(at(i));
        const std::int64_t between = stride(i);
        std::int32_t bytes_sum = 0;
        for (std::int64_t j = 0; j < d; ++j) {
            const double code = nearest(values[j] * inverse, LEVELS);
            into[j / STEP * between + j % STEP] = static_cast<std::int8_t>(code);
            bytes_sum += static_cast<std::int32_t>(code);
            values[j] = code * unit;
        }
        start[i] = -BIAS * bytes_sum;
        scale[i] = unit;
    }
};

// The numbers by which rounding and rank enter the bound, for a document of length |c8| and error |c - c8|.
struct Slack {
    float mean_left = 0, mean_length = 0;      // |z mean|, |y mean|
    float spread_left = 0, spread_length = 0;  // Frobenius norms of z_i - z mean and y_i - y mean
    float most_left = 0, most_length = 0;      // the largest |z_i - z mean| and |y_i - y mean|
};

// What the bound needs of the first r directions: in 8 bits, or as the basis g of all of them, in float32.
struct Look {
    int r = 0;
    std::vector<float> mean;       // a [r]
    std::vector<float> beyond;     // C [r][padded_m]
    std::vector<float> principal;  // N [r][r], upper triangular: |C b.c| <= |N b.c|
    float reach = 0;               // max_i C_i b.c <= reach * |N b.c|
    std::vector<float> reaches;    // the same for every block of codes
    std::vector<float> left;       // [padded_m]: |z_i - z mean|
    Slack slack;
};

struct Query {
    int m = 0, padded_m;    // codes that are present; m in whole registers
    std::int64_t d, width;  // width: d in whole registers
    double temperature;
    float soft;                  // the temperature as the bounds use it, within the range of float32
    std::vector<double> codes;   // [m][d]
    std::vector<float> rounded;  // [m][width]
    float longest = 0;           // max |y_i|

    int r = 0;
    EightBit directions;       // b
    std::vector<float> apart;  // [padded_m]: |y_i - y mean|
    std::vector<Look> looks;   // from few 8-bit directions to all of them; empty when there is no direction
    std::vector<float> basis;  // g, orthonormal [r][width]
    Look whole;                // along all of g: of none, it is the lengths of the codes

    // Without directions it is ready in a fifth of the time, and every code has to be multiplied with the documents.
    Query(const double* given, int rows, std::int64_t d, double temperature, bool along_directions = true)
        : d(d), width((d + LANES - 1) / LANES * LANES), temperature(temperature),
          soft(static_cast<float>(temperature < 1e-30 ? 1e-30 : temperature > 1e30 ? 1e30 : temperature)), directions(0, 1, d) {
        codes.reserve(static_cast<std::size_t>(rows * d));
        for (int i = 0; i < rows; ++i) {
            const double* code = given + i * d;
            if (std::all_of(code, code + d, [](double x) { return x == 0.0; })) continue;  // absent
            codes.insert(codes.end(), code, code + d);
            ++m;
        }
        padded_m = (m + LANES - 1) / LANES * LANES;
        if (m > BLOCK) put_far_ones_first();
        rounded.assign(static_cast<std::size_t>(m * width), 0.0f);
        for (int i = 0; i < m; ++i) {
            for (std::int64_t j = 0; j < d; ++j) rounded[i * width + j] = static_cast<float>(codes[i * d + j]);
            longest = std::max(longest, upwards(std::sqrt(dot(&codes[i * d], &codes[i * d], d))));
        }
        if (m == 0) return;
        const std::vector<float> code_mean = mean_of(rounded);
        apart.assign(padded_m, 0.0f);
        for (int i = 0; i < m; ++i) apart[i] = upwards(distance(&rounded[i * width], code_mean.data()) + 1e-5 * longest);
        whole = look_at(rounded, code_mean);
        if (along_directions) choose_directions(code_mean);
    }

    // By their distance from the mean code, so that most blocks of codes hold no candidate for the largest.
    void put_far_ones_first() {
        std::vector<double> code_mean(d, 0.0), far(m), sorted;
        for (int i = 0; i < m; ++i)
            for (std::int64_t j = 0; j < d; ++j) code_mean[j] += codes[i * d + j] / m;
        std::vector<int> order(m);
        for (int i = 0; i < m; ++i) {
            order[i] = i;
            for (std::int64_t j = 0; j < d; ++j) far[i] += (codes[i * d + j] - code_mean[j]) * (codes[i * d + j] - code_mean[j]);
        }
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return far[a] > far[b]; });
        sorted.reserve(codes.size());
        for (int i : order) sorted.insert(sorted.end(), codes.begin() + i * d, codes.begin() + (i + 1) * d);
        codes.swap(sorted);
    }

    // Greedily: the mean code, then whatever direction the codes still lack most, what rounding lost included.
    void choose_directions(const std::vector<float>& code_mean) {
        const int most = std::min(m, MOST_DIRECTIONS);
        std::vector<float> lacking = rounded, fresh(width);
        std::vector<float> shares;      // [r][padded_m]: y_i = sum_l shares_li g_l + z_i
        std::vector<double> eight_bit;  // [r][d]
        while (r < most) {
            std::vector<double> direction;
            if (r == 0) direction = toward(code_mean);
            if (direction.empty()) direction = toward_most(lacking);
            if (direction.empty()) break;
            EightBit one(1, 1, d);
            one.set(0, direction.data(), d);
            // Gram-Schmidt against the directions there are, twice for the sake of rounding.
            std::fill(fresh.begin(), fresh.end(), 0.0f);
            for (std::int64_t j = 0; j < d; ++j) fresh[j] = static_cast<float>(direction[j]);
            for (int pass = 0; pass < 2; ++pass)
                for (int l = 0; l < r; ++l) add(fresh.data(), &basis[l * width], -dot(fresh.data(), &basis[l * width], width));
            if (!(dot(fresh.data(), fresh.data(), width) > 0.1f) || !normalise(fresh.data())) break;
            shares.resize(static_cast<std::size_t>((r + 1) * padded_m));
            for (int i = 0; i < m; ++i) {
                const float share = dot(&lacking[i * width], fresh.data(), width);
                add(&lacking[i * width], fresh.data(), -share);
                shares[r * padded_m + i] = share;
            }
            basis.insert(basis.end(), fresh.begin(), fresh.end());
            eight_bit.insert(eight_bit.end(), direction.begin(), direction.end());
            ++r;
            if (std::find(std::begin(LOOKS), std::end(LOOKS), r) != std::end(LOOKS)) looks.push_back(look_at(lacking, code_mean));
        }
        if (r == 0) return;
        whole = look_at(lacking, code_mean);
        if (looks.empty() || (looks.back().r < r && r <= MOST_IN_8_BITS)) looks.push_back(whole);
        express(eight_bit, shares);
    }

    // The mean code's direction, of length 1; empty when it has none.
    std::vector<double> toward(std::vector<float> x) const {
        if (!normalise(x.data())) return {};
        return std::vector<double>(x.begin(), x.begin() + d);
    }

    // Nearly the direction in which there is most of what the codes lack; empty when they lack little.
    std::vector<double> toward_most(const std::vector<float>& lacking) const {
        int farthest = 0;
        float squares = 0;
        for (int i = 0; i < m; ++i) {
            const float here = dot(&lacking[i * width], &lacking[i * width], width);
            if (here > squares) farthest = i, squares = here;
        }
        if (!(squares > LEFT_OUT * LEFT_OUT * longest * longest)) return {};
        std::vector<float> x(lacking.begin() + farthest * width, lacking.begin() + (farthest + 1) * width), next(width);
        for (int step = 0; step < POWER_ITERATIONS && normalise(x.data()); ++step) {
            std::fill(next.begin(), next.end(), 0.0f);
            for (int i = 0; i < m; ++i) add(next.data(), &lacking[i * width], dot(&lacking[i * width], x.data(), width));
            x = next;
        }
        return toward(x);
    }

    // Measures what the directions so far leave out.
    Look look_at(const std::vector<float>& lacking, const std::vector<float>& code_mean) const {
        Look look;
        look.r = r;
        const std::vector<float> rest_mean = mean_of(lacking);
        const double rounding = 1e-5 * longest;  // of the r subtractions in float32, for each code
        look.left.assign(padded_m, 0.0f);
        double rest_total = 0, code_total = 0;
        Slack& slack = look.slack;
        for (int i = 0; i < m; ++i) {
            look.left[i] = upwards(distance(&lacking[i * width], rest_mean.data()) + 2 * rounding);
            slack.most_left = std::max(slack.most_left, look.left[i]);
            slack.most_length = std::max(slack.most_length, apart[i]);
            rest_total += double(look.left[i]) * look.left[i];
            code_total += double(apart[i]) * apart[i];
        }
        slack.mean_left = upwards(std::sqrt(dot(rest_mean.data(), rest_mean.data(), width)) + rounding);
        slack.mean_length = upwards(std::sqrt(dot(code_mean.data(), code_mean.data(), width)) + rounding);
        slack.spread_left = upwards(std::sqrt(rest_total));
        slack.spread_length = upwards(std::sqrt(code_total));
        return look;
    }

    // The codes in terms of the 8-bit vectors, y_i = sum_l share_li g_l + z_i with g = W b; and in terms of g itself.
    void express(std::vector<double>& eight_bit, const std::vector<float>& shares) {
        const int few = looks.back().r;
        directions = EightBit(few, MOST_IN_8_BITS, d);
        for (int l = 0; l < few; ++l) directions.set(l, &eight_bit[l * d], d);
        const std::vector<double> w = in_basis(few, eight_bit);
        std::vector<double> off(few), length(few);  // |g_l - W_l b| in the numbers as they are, and |b_l|
        for (int l = 0; l < few; ++l) {
            std::vector<double> rest(basis.begin() + l * width, basis.begin() + l * width + d);
            for (int j = 0; j <= l; ++j)
                for (std::int64_t i = 0; i < d; ++i) rest[i] -= w[l * few + j] * eight_bit[j * d + i];
            off[l] = std::sqrt(dot(rest.data(), rest.data(), d));
            length[l] = std::sqrt(dot(&eight_bit[l * d], &eight_bit[l * d], d));
        }
        const std::vector<double> none(r, 0.0), one(r, 1.0 + 1e-6);
        for (Look& look : looks) {
            centre(look, length, off, shares, [&](int i, int j) {
                double coefficient = 0;
                for (int l = j; l < look.r; ++l) coefficient += shares[l * padded_m + i] * w[l * few + j];
                return coefficient;
            });
            bound_spread(look);
        }
        centre(whole, one, none, shares, [&](int i, int j) { return static_cast<double>(shares[j * padded_m + i]); });
    }

    // Splits coefficients into a mean and the rest, in float32; what that rounds off counts as left out.
    template <typename Coefficient>
    void centre(Look& look, const std::vector<double>& length, const std::vector<double>& off, const std::vector<float>& shares,
                const Coefficient& coefficient) const {
        look.mean.assign(look.r, 0.0f);
        look.beyond.assign(static_cast<std::size_t>(look.r * padded_m), 0.0f);
        double off_centre = 0;
        std::vector<double> wrong(m, 0.0), here(m);
        for (int j = 0; j < look.r; ++j) {
            double total = 0, left = 0;
            for (int i = 0; i < m; ++i) total += here[i] = coefficient(i, j);
            look.mean[j] = static_cast<float>(total / m);
            for (int i = 0; i < m; ++i) {
                const float beyond = static_cast<float>(here[i] - look.mean[j]);
                look.beyond[j * padded_m + i] = beyond;
                left += beyond;
                wrong[i] += std::fabs(here[i] - look.mean[j] - beyond) * length[j] + std::fabs(shares[j * padded_m + i]) * off[j];
            }
            off_centre += std::fabs(left / m) * length[j];
        }
        const float more = upwards(2 * *std::max_element(wrong.begin(), wrong.end()) + off_centre);
        for (int i = 0; i < m; ++i) look.left[i] += more;
        look.slack.most_left += more;
        look.slack.mean_left += more;
        look.slack.spread_left += more * upwards(std::sqrt(double(m)));
    }

    // W: the inverse of the lower triangular matrix of the 8-bit vectors in the basis.
    std::vector<double> in_basis(int r, const std::vector<double>& eight_bit) const {
        std::vector<double> triangle(r * r), inverse(r * r), exact(basis.begin(), basis.end());
        for (int j = 0; j < r; ++j)
            for (int l = 0; l <= j; ++l) triangle[j * r + l] = dot(&eight_bit[j * d], &exact[l * width], d);
        for (int column = 0; column < r; ++column)
            for (int j = column; j < r; ++j) {
                double value = j == column ? 1.0 : 0.0;
                for (int l = column; l < j; ++l) value -= triangle[j * r + l] * inverse[l * r + column];
                inverse[j * r + column] = value / triangle[j * r + j];
            }
        return inverse;
    }

    // |C x|^2 = x' K x, K = C'C; with K + a little = L L', N = L'. And C_i.x = (L^-1 C_i).(L'x) <= |L^-1 C_i| |N x|.
    void bound_spread(Look& look) const {
        const int r = look.r;
        std::vector<double> lower(r * r, 0.0);
        double trace = 0;
        for (int a = 0; a < r; ++a)
            for (int b = 0; b <= a; ++b) lower[a * r + b] = dot(&look.beyond[a * padded_m], &look.beyond[b * padded_m], padded_m);
        for (int a = 0; a < r; ++a) trace += lower[a * r + a];
        for (int a = 0; a < r; ++a)
            for (int b = 0; b <= a; ++b) {
                double value = lower[a * r + b] + (a == b ? 1e-4 * trace + 1e-30 : 0);
                for (int l = 0; l < b; ++l) value -= lower[a * r + l] * lower[b * r + l];
                lower[a * r + b] = a == b ? std::sqrt(std::max(value, 1e-6 * trace + 1e-30)) : value / lower[b * r + b];
            }
        look.principal.assign(r * r, 0.0f);
        for (int a = 0; a < r; ++a)
            for (int b = a; b < r; ++b) look.principal[a * r + b] = static_cast<float>(lower[b * r + a]);
        look.reaches.assign((m + BLOCK - 1) / BLOCK, 0.0f);
        std::vector<double> solved(r);
        for (int i = 0; i < m; ++i) {
            double squares = 0;
            for (int a = 0; a < r; ++a) {
                double value = look.beyond[a * padded_m + i];
                for (int l = 0; l < a; ++l) value -= lower[a * r + l] * solved[l];
                solved[a] = value / lower[a * r + a];
                squares += solved[a] * solved[a];
            }
            look.reaches[i / BLOCK] = std::max(look.reaches[i / BLOCK], upwards(std::sqrt(squares)));
        }
        look.reach = *std::max_element(look.reaches.begin(), look.reaches.end());
    }

    std::vector<float> mean_of(const std::vector<float>& rows) const {
        std::vector<float> total(width, 0.0f);
        for (int i = 0; i < m; ++i) add(total.data(), &rows[i * width], 1.0f);
        for (float& x : total) x /= static_cast<float>(m);
        return total;
    }

    double distance(const float* a, const float* b) const {
        v16 total = {};
        for (std::int64_t j = 0; j < width; j += LANES) {
            const v16 x = load(a + j) - load(b + j);
            total += x * x;
        }
        return std::sqrt(sum(total));
    }

    void add(float* to, const float* x, float factor) const {
        for (std::int64_t j = 0; j < width; j += LANES) store(to + j, load(to + j) + load(x + j) * factor);
    }

    // False, and nothing done, when there is no length to divide by.
    bool normalise(float* x) const {
        float largest = 0;
        for (std::int64_t j = 0; j < width; ++j) largest = std::max(largest, std::fabs(x[j]));
        if (!(largest > 1e-20f)) return false;
        for (std::int64_t j = 0; j < width; ++j) x[j] /= largest;
        const float length = std::sqrt(dot(x, x, width));
        for (std::int64_t j = 0; j < width; ++j) x[j] /= length;
        return true;
    }
};
