// Python's door to the kernel: addresses and sizes in, no Python object touched, the interpreter's lock released.
//
// Knows nothing of what it calls but the signatures; `prepared.py`, its only caller, has checked everything.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "variants.h"

namespace py = pybind11;
using namespace polyencoders;

namespace {

const Variant* const ALL[] = {&AVX512_VNNI, &AVX2, &PORTABLE};

std::vector<std::string> variants() {
    std::vector<std::string> names;
    for (const Variant* variant : ALL)
        if (variant->usable()) names.emplace_back(variant->name);
    return names;
}

const Variant& named(const std::string& name) {
    for (const Variant* variant : ALL)
        if (name == variant->name && variant->usable()) return *variant;
    throw py::value_error("no such variant on this processor: " + name);
}

// Documents and their tiles, as addresses in memory that Python keeps.
struct Prepared {
    Documents documents;
    MutableTiles tiles;

    Prepared(std::uintptr_t data, std::int64_t n, std::int64_t d, std::int64_t stride, int element, std::uintptr_t bytes,
             std::uintptr_t scale, std::uintptr_t error, std::uintptr_t length)
        : documents{reinterpret_cast<const void*>(data), n, d, stride, static_cast<Element>(element)},
          tiles{reinterpret_cast<std::uint8_t*>(bytes), reinterpret_cast<float*>(scale), reinterpret_cast<float*>(error),
                reinterpret_cast<float*>(length)} {}

    Tiles read() const { return {tiles.bytes, tiles.scale, tiles.error, tiles.length}; }

    std::int64_t prepare(const std::string& variant, double longest, int threads) const {
        return named(variant).prepare(documents, tiles, longest, threads);
    }

    // `selected`: addresses of tiles and of bits as in Selection, 0 for null, and the number of tiles. `addends`: 0 for none.
    std::pair<std::int64_t, std::int64_t> search(const std::string& variant,
                                                 std::tuple<std::uintptr_t, std::int64_t, std::uintptr_t> selected,
                                                 std::uintptr_t codes, std::uintptr_t addends, std::int64_t queries, int m,
                                                 double temperature, std::int64_t k, int threads, std::uintptr_t scores,
                                                 std::uintptr_t indices) const {
        if (m < 1 || m > MOST_CODES || k > documents.n) throw py::value_error("m or k out of range");
        std::vector<Hit> hits(static_cast<std::size_t>(queries * k));
        const auto [listed, count, allowed] = selected;
        const Selection selection{reinterpret_cast<const std::int32_t*>(listed), listed ? count : padded(documents.n) / TILE,
                                  reinterpret_cast<const std::uint32_t*>(allowed), documents.n};
        const Counts counts = named(variant).search(documents, read(), selection, reinterpret_cast<const double*>(codes),
                                                    reinterpret_cast<const float*>(addends), queries, m, temperature, k, threads,
                                                    hits.data());
        for (std::size_t i = 0; i < hits.size(); ++i) {
            reinterpret_cast<double*>(scores)[i] = hits[i].score;
            reinterpret_cast<std::int64_t*>(indices)[i] = hits[i].document;
        }
        return {counts.screened, counts.rescored};
    }

    void estimate(const std::string& variant, std::uintptr_t vectors, std::int64_t queries, int threads, std::uintptr_t out) const {
        named(variant).estimate(documents, read(), reinterpret_cast<const double*>(vectors), queries, threads,
                                reinterpret_cast<float*>(out));
    }

    std::vector<float> bounds(const std::string& variant, std::uintptr_t codes, int m, double temperature) const {
        return named(variant).bounds(documents, read(), reinterpret_cast<const double*>(codes), m, temperature);
    }
};

}  // namespace

PYBIND11_MODULE(_kernel, module) {
    module.doc() = "The native kernel of polyencoders.scoring; see kernel.py.";
    module.def("variants", &variants, "The variants this processor can run, fastest first.");
    py::class_<Prepared>(module, "Prepared")
        .def(py::init<std::uintptr_t, std::int64_t, std::int64_t, std::int64_t, int, std::uintptr_t, std::uintptr_t,
                      std::uintptr_t, std::uintptr_t>())
        .def("prepare", &Prepared::prepare, py::call_guard<py::gil_scoped_release>())
        .def("search", &Prepared::search, py::call_guard<py::gil_scoped_release>())
        .def("estimate", &Prepared::estimate, py::call_guard<py::gil_scoped_release>())
        .def("bounds", &Prepared::bounds, "Every bound of every document: for the tests.");
}
