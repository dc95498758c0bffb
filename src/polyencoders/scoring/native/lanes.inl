// Sixteen numbers at a time, by the compiler's own vector types: one AVX-512 register, two of AVX2, four of NEON.
//
// Included inside each variant's namespace, so that it is compiled for that variant's processor.

typedef float v16 __attribute__((vector_size(64)));
typedef float v8 __attribute__((vector_size(32)));
typedef float v4 __attribute__((vector_size(16)));
typedef double v8d __attribute__((vector_size(64)));

inline v16 load(const float* from) {
    v16 x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
inline void store(float* to, v16 x) { std::memcpy(to, &x, sizeof x); }
inline v16 splat(float x) { return v16{} + x; }
inline v16 larger(v16 a, v16 b) { return a > b ? a : b; }
inline v16 smaller(v16 a, v16 b) { return a < b ? a : b; }
inline v16 to_float(v16i x) { return __builtin_convertvector(x, v16); }

inline v16 root(v16 x) {
    v16 y = {};
    for (int lane = 0; lane < LANES; ++lane) y[lane] = std::sqrt(x[lane]);
    return y;
}

// By halves, so that a sum of 16 takes four additions one after another.
inline float sum(v16 x) {
    v8 eight[2];
    std::memcpy(eight, &x, sizeof x);
    const v8 of_eight = eight[0] + eight[1];
    v4 four[2];
    std::memcpy(four, &of_eight, sizeof of_eight);
    const v4 of_four = four[0] + four[1];
    return (of_four[0] + of_four[2]) + (of_four[1] + of_four[3]);
}

inline float largest(v16 x) {
    v8 eight[2];
    std::memcpy(eight, &x, sizeof x);
    const v8 of_eight = eight[0] > eight[1] ? eight[0] : eight[1];
    v4 four[2];
    std::memcpy(four, &of_eight, sizeof of_eight);
    const v4 of_four = four[0] > four[1] ? four[0] : four[1];
    return std::max(std::max(of_four[0], of_four[2]), std::max(of_four[1], of_four[3]));
}

// exp(x) for x <= 0, to a relative 3e-7; 0 is given below -87 (the bound of the rescoring counts on 1e-6).
inline v16 exponential(v16 x) {
    const v16 floor = splat(-87.0f);
    const auto tiny = x < floor;
    x = tiny ? floor : x;
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to whole numbers, kept in the low bits
    const v16 shifted = x * 1.44269504088896341f + magic;
    const v16 whole = shifted - magic;
    v16 rest = x - whole * 0.693359375f;
    rest = rest + whole * 2.12194440e-4f;
    v16 p = splat(1.9875691500e-4f);
    p = p * rest + 1.3981999507e-3f;
    p = p * rest + 8.3334519073e-3f;
    p = p * rest + 4.1665795894e-2f;
    p = p * rest + 1.6666665459e-1f;
    p = p * rest + 5.0000001201e-1f;
    p = p * rest * rest + rest + 1.0f;
    v16i exponent;
    exponent = (__builtin_convertvector(whole, v16i) + 127) << 23;
    v16 power;
    std::memcpy(&power, &exponent, sizeof power);
    return tiny ? v16{} : p * power;
}

// Inner product of `length` floats, a multiple of 16. Its rounding error is at most
// (length / 16 + 7) 2^-24 sum |a_i b_i|: a lane sums no more than length / 16 products, then come six levels of a tree.
inline float dot(const float* a, const float* b, std::int64_t length) {
    v16 total = {}, second = {}, third = {}, fourth = {};  // side by side: a sum waits for the one before it
    std::int64_t i = 0;
    for (; i + 4 * LANES <= length; i += 4 * LANES) {
        total += load(a + i) * load(b + i);
        second += load(a + i + LANES) * load(b + i + LANES);
        third += load(a + i + 2 * LANES) * load(b + i + 2 * LANES);
        fourth += load(a + i + 3 * LANES) * load(b + i + 3 * LANES);
    }
    for (; i < length; i += LANES) total += load(a + i) * load(b + i);
    return sum((total + second) + (third + fourth));
}

// The same in float64, of any length; the order of summation depends on the length alone, so that equal documents
// have equal scores wherever they stand.
inline double dot(const double* a, const double* b, std::int64_t length) {
    v8d total = {};
    std::int64_t i = 0;
    for (; i + 8 <= length; i += 8) {
        v8d x, y;
        std::memcpy(&x, a + i, sizeof x);
        std::memcpy(&y, b + i, sizeof y);
        total += x * y;
    }
    double parts[8];
    std::memcpy(parts, &total, sizeof parts);
    double result = ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
    for (; i < length; ++i) result += a[i] * b[i];
    return result;
}

// The nearest whole number within [-levels, levels], of |x| < 2^51.
inline double nearest(double x, int levels) {
    const double magic = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to whole numbers
    const double code = (x + magic) - magic;
    return code > levels ? levels : code < -levels ? -levels : code;
}

// A float that is at least x >= 0, whatever was rounded on the way to x.
inline float upwards(double x) { return static_cast<float>(x * (1.0 + 1e-6) + 1e-37); }
