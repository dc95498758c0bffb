// What the kernel reads and writes: documents as the caller keeps them, and their 8-bit tiles.
//
// Knows the memory layout and nothing of queries or scores.
#pragma once

#include <cstdint>
#include <cstring>

namespace polyencoders {

constexpr int LANES = 16;            // documents in a vector register, one in each lane
constexpr int HALVES = 2;            // registers of documents that share each broadcast of the query
constexpr int TILE = LANES * HALVES; // documents that are multiplied together
constexpr int STEP = 4;              // dimensions that one 8-bit instruction sums
constexpr int BIAS = 128;            // a code c in [-127, 127] is kept as the byte c + BIAS

typedef std::int32_t v16i __attribute__((vector_size(64)));  // one number for each lane

enum class Element : int { f32 = 0, f64 = 1, f16 = 2, bf16 = 3 };

// n documents of d elements, each contiguous, `stride` elements from one to the next: the caller's own memory.
struct Documents {
    const void* data;
    std::int64_t n, d, stride;
    Element element;
};

// The same documents in 8 bits, `scale[i] * (byte - BIAS)`, 32 documents to a tile: bytes [tile][dimension / 4][32][4],
// read from front to back. Dimensions are padded with zeros to a multiple of 4, documents to a multiple of 32.
template <typename Byte, typename Float>
struct TilesOf {
    Byte* bytes;
    Float* scale;
    Float* error;   // an upper bound of |c - c8|, the length of what rounding lost
    Float* length;  // an upper bound of |c8|
};
using Tiles = TilesOf<const std::uint8_t, const float>;
using MutableTiles = TilesOf<std::uint8_t, float>;

// Which documents are looked at: the tiles listed, in that order, and of those the documents whose bit is set.
struct Selection {
    const std::int32_t* tiles;     // null: all of them, in order
    std::int64_t count;            // of tiles
    const std::uint32_t* allowed;  // a bit for each document of a tile, by tile; null: every document
    std::int64_t n;                // documents in all

    std::int64_t tile(std::int64_t place) const { return tiles ? tiles[place] : place; }
    std::uint32_t documents(std::int64_t tile) const {
        const std::int64_t there = n - tile * TILE;
        const std::uint32_t real = there >= TILE ? ~std::uint32_t{0} : (std::uint32_t{1} << there) - 1;
        return allowed ? allowed[tile] & real : real;
    }
};

inline std::int64_t steps_of(std::int64_t d) { return (d + STEP - 1) / STEP; }
inline std::int64_t padded(std::int64_t n) {
    return (n + TILE - 1) / TILE * TILE;
}
inline std::int64_t tile_bytes(std::int64_t d) { return steps_of(d) * STEP * TILE; }

inline float half_to_float(std::uint16_t h) {
    const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000) << 16;
    const std::uint32_t exponent = (h >> 10) & 0x1F, fraction = h & 0x3FF;
    std::uint32_t bits;
    if (exponent == 0x1F) {
        bits = sign | 0x7F800000u | (fraction << 13);
    } else if (exponent != 0) {
        bits = sign | ((exponent + 112) << 23) | (fraction << 13);
    } else {  // zero or subnormal: fraction * 2^-24, exact in float32
        float value = static_cast<float>(fraction) * 5.9604644775390625e-8f;
        return sign ? -value : value;
    }
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float bfloat_to_float(std::uint16_t h) {
    const std::uint32_t bits = static_cast<std::uint32_t>(h) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Document i as float32 or float64: exact, but for float64 read as float32, which rounds.
template <typename Number>
inline void read_document(const Documents& documents, std::int64_t i, Number* out) {
    const std::int64_t start = i * documents.stride, d = documents.d;
    switch (documents.element) {
        case Element::f32: {
            const float* row = static_cast<const float*>(documents.data) + start;
            for (std::int64_t j = 0; j < d; ++j) out[j] = static_cast<Number>(row[j]);
            break;
        }
        case Element::f64: {
            const double* row = static_cast<const double*>(documents.data) + start;
            for (std::int64_t j = 0; j < d; ++j) out[j] = static_cast<Number>(row[j]);
            break;
        }
        case Element::f16: {
            const std::uint16_t* row = static_cast<const std::uint16_t*>(documents.data) + start;
            for (std::int64_t j = 0; j < d; ++j) out[j] = static_cast<Number>(half_to_float(row[j]));
            break;
        }
        case Element::bf16: {
            const std::uint16_t* row = static_cast<const std::uint16_t*>(documents.data) + start;
            for (std::int64_t j = 0; j < d; ++j) out[j] = static_cast<Number>(bfloat_to_float(row[j]));
            break;
        }
    }
}

}  // namespace polyencoders
