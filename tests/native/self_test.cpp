// The kernel against its definition, without Python: for processors and sanitisers where there is none at hand.
//
//     make self-test                                          # here, with the address and undefined-behaviour sanitisers
//     make self-test CXX=aarch64-linux-gnu-g++ RUN="qemu-aarch64 -L /usr/aarch64-linux-gnu" SANITISE=
#include <cmath>
#include <cstdio>
#include <random>

#include "includes.h"

using namespace polyencoders;

namespace {

double score(const float* document, const double* codes, int m, std::int64_t d, double temperature) {
    std::vector<double> s;
    for (int i = 0; i < m; ++i) {
        double product = 0, squares = 0;
        for (std::int64_t j = 0; j < d; ++j) product += codes[i * d + j] * document[j], squares += codes[i * d + j] * codes[i * d + j];
        if (squares > 0) s.push_back(product);
    }
    if (s.empty()) return 0;
    const double most = *std::max_element(s.begin(), s.end());
    double weights = 0, weighted = 0;
    for (double x : s) weights += std::exp((x - most) / temperature), weighted += std::exp((x - most) / temperature) * x;
    return weighted / weights;
}

bool right(const Variant& variant, std::int64_t n, std::int64_t d, int m, double temperature, double alike, std::mt19937& random) {
    std::normal_distribution<double> normal;
    const int queries = 3, k = 10;
    std::vector<float> documents(n * d);
    std::vector<double> codes(queries * m * d), common(d);
    for (float& x : documents) x = static_cast<float>(normal(random));
    for (int q = 0; q < queries; ++q) {
        for (double& x : common) x = normal(random);
        for (int i = 0; i < m * d; ++i) codes[q * m * d + i] = alike * common[i % d] + (1 - alike) * normal(random);
    }
    for (std::int64_t j = 0; j < d; ++j) documents[(n - 1) * d + j] = documents[j];  // a tie
    std::vector<float> addends(queries * padded(n));
    for (float& x : addends) x = normal(random) > 1 ? static_cast<float>(alike) : 0.0f;
    for (int q = 0; q < queries; ++q) addends[q * padded(n) + n - 1] = addends[q * padded(n)];
    std::vector<std::uint8_t> bytes(padded(n) / TILE * tile_bytes(d));
    std::vector<float> scale(padded(n)), error(padded(n)), length(padded(n));
    const Documents given = {documents.data(), n, d, d, Element::f32};
    if (variant.prepare(given, {bytes.data(), scale.data(), error.data(), length.data()}, 1e15, 2) != -1) return false;
    const Tiles tiles = {bytes.data(), scale.data(), error.data(), length.data()};
    const std::int64_t wanted = std::min<std::int64_t>(k, n);
    std::vector<Hit> hits(queries * wanted);
    variant.search(given, tiles, {nullptr, padded(n) / TILE, nullptr, n}, codes.data(), addends.data(), queries, m, temperature, wanted, 2,
                   hits.data());
    for (int q = 0; q < queries; ++q) {
        std::vector<Hit> all;
        for (std::int64_t i = 0; i < n; ++i)
            all.push_back({score(&documents[i * d], &codes[q * m * d], m, d, temperature) + addends[q * padded(n) + i], i});
        std::sort(all.begin(), all.end(), [](const Hit& a, const Hit& b) { return a.score > b.score || (a.score == b.score && a.document < b.document); });
        for (std::int64_t i = 0; i < wanted; ++i)
            if (hits[q * wanted + i].document != all[i].document || std::fabs(hits[q * wanted + i].score - all[i].score) > 1e-9) return false;
        const std::vector<float> bounds = variant.bounds(given, tiles, &codes[q * m * d], m, temperature);
        for (std::size_t i = 0; i + n < bounds.size(); ++i)
            if (bounds[i] < score(&documents[i % n * d], &codes[q * m * d], m, d, temperature) - 1e-12) return false;
    }
    return true;
}

}  // namespace

int main() {
    std::mt19937 random(1);
    int wrong = 0;
    for (const Variant* variant : {&AVX512_VNNI, &AVX2, &PORTABLE}) {
        if (!variant->usable()) continue;
        int done = 0;
        for (std::int64_t n : {1, 33, 2500})
            for (std::int64_t d : {1, 7, 64, 100})
                for (int m : {1, 3, 16, 65, 200})
                    for (double temperature : {0.05, 1.0})
                        for (double alike : {0.0, 0.9}) {
                            if (n * d * m > 3000 * 64 * 65) continue;
                            const bool ok = right(*variant, n, d, m, temperature, alike, random);
                            if (!ok) std::printf("%s: wrong for n=%d d=%d m=%d T=%g alike=%g\n", variant->name, int(n), int(d), m, temperature, alike);
                            wrong += !ok, ++done;
                        }
        std::printf("%s: %d searches\n", variant->name, done);
    }
    return wrong != 0;
}
