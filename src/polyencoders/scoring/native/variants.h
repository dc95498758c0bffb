// The kernel compiled for several processors; which of them this one can run is asked at run time.
#pragma once

#include <vector>

#include "vectors.h"

namespace polyencoders {

constexpr int MOST_CODES = 512;

// A document of -1: there is none.
struct Hit {
    double score;
    std::int64_t document;
};

// Documents that the 8-bit screen left, and those that were scored in float32 against all codes, over all queries.
struct Counts {
    std::int64_t screened = 0, rescored = 0;
};

struct Variant {
    const char* name;
    bool (*usable)();
    std::int64_t (*prepare)(const Documents&, const MutableTiles&, double longest, int threads);
    Counts (*search)(const Documents&, const Tiles&, const Selection&, const double* codes, const float* addends,
                     std::int64_t queries, int m, double temperature, std::int64_t k, int threads, Hit* out);
    void (*estimate)(const Documents&, const Tiles&, const double* vectors, std::int64_t queries, int threads, float* out);
    std::vector<float> (*bounds)(const Documents&, const Tiles&, const double* codes, int m, double temperature);
};

extern const Variant AVX512_VNNI, AVX2, PORTABLE;

}  // namespace polyencoders
