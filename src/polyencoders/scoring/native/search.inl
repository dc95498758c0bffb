// The k best documents of every query, in one pass over the documents of a selection.
//
// A chunk of documents at a time, for one query after another while the chunk is in the cache: the screen dismisses
// those whose bound is below the k-th best score so far, the rest are scored in float32, and what that does not dismiss
// in float64. Nothing is kept but the k best, so the memory does not depend on the number of documents. Where documents
// have addends, all of this is about the sum of score and addend.

constexpr std::int64_t CHUNK = 64;    // tiles
constexpr std::int64_t SAMPLE = 128;  // tiles of the opening

inline bool by_bound(const Candidate& a, const Candidate& b) { return a.bound > b.bound; }
inline bool better(const Hit& a, const Hit& b) { return a.score > b.score || (a.score == b.score && a.document < b.document); }

// The k best so far of one thread.
struct Best {
    std::vector<Hit> heap;  // the worst of them in front
    std::size_t k = 0;

    bool full() const { return heap.size() == k; }
    void offer(const Hit& hit) {
        if (full()) {
            if (!better(hit, heap.front())) return;
            std::pop_heap(heap.begin(), heap.end(), better);
            heap.back() = hit;
        } else {
            heap.push_back(hit);
        }
        std::push_heap(heap.begin(), heap.end(), better);
    }
};

// How documents are screened: by a first look, numbered, along few directions; by all codes; or not at all.
constexpr std::int64_t FEW = 512;       // tiles times codes, up to which directions cost more than they spare
constexpr std::size_t FIRST = 64;       // candidates that are scored before the others are sorted
constexpr float ENOUGH = 0.30f;         // of the longest code: what the first look to begin with may leave out
constexpr int ALL_CODES = 100, NO_SCREEN = 101;

struct QueryState {
    std::atomic<double> threshold{-std::numeric_limits<double>::infinity()};  // the best k-th best of any thread
    std::atomic<int> screen{0};
    Addends addends;
    std::unique_ptr<Query> query;
    std::unique_ptr<AllCodes> all_codes;
    std::once_flag all_codes_made;

    // As a float that is no higher, so that nothing equal to the k-th best is dismissed.
    float reach() const {
        const double exact = threshold.load(std::memory_order_relaxed);
        const float rounded = static_cast<float>(exact);
        return rounded > exact ? std::nextafter(rounded, -std::numeric_limits<float>::infinity()) : rounded;
    }
    void raise(double to) {
        double now = threshold.load(std::memory_order_relaxed);
        while (to > now && !threshold.compare_exchange_weak(now, to, std::memory_order_relaxed)) {
        }
    }
};

struct Work {
    std::vector<Candidate> found;
    Rescorer rescorer;
    std::vector<double> floors;  // of the opening

    Work(const Documents& documents, std::int64_t width, int most_codes) : rescorer(documents, width, most_codes) {}
};

// Calls take(document) for every document of the selection's tiles [first, last).
template <typename Take>
static void for_each(const Selection& selection, std::int64_t first, std::int64_t last, const Take& take) {
    for (std::int64_t place = first; place < last; ++place) {
        const std::int64_t tile = selection.tile(place);
        const std::uint32_t wanted = selection.documents(tile);
        for (int lane = 0; lane < TILE; ++lane)
            if (wanted >> lane & 1) take(tile * TILE + lane);
    }
}

// A first threshold, before the pass: the k-th best lower bound among those documents of a sample, spread over all of them,
// that the mean code likes best. It costs one direction for the sample, and spares the first chunks a threshold that is
// far below the last.
static void open(QueryState& state, const Tiles& tiles, const Selection& selection, std::int64_t k, Work& work) {
    const Query& query = *state.query;
    const std::int64_t all = selection.count, sampled = std::min(all, std::min<std::int64_t>(SAMPLE, std::max<std::int64_t>(all / 8, 32)));
    const std::int64_t wanted = 2 * k + 16;
    if (query.r == 0 || sampled * TILE < 4 * wanted) return;
    std::vector<Candidate>& list = work.found;
    list.clear();
    v16i products[1][HALVES];
    for (std::int64_t i = 0; i < sampled; ++i) {
        const std::int64_t tile = selection.tile(i * all / sampled), at = tile * TILE;
        const std::uint32_t here = selection.documents(tile);
        multiply_all(tiles, at, query.directions, query.d, 0, 1, products);
        for (int half = 0; half < HALVES; ++half) {
            const v16 scale = load(tiles.scale + at + half * LANES) * query.directions.scale[0] * query.longest;
            const v16 liked = to_float(products[0][half]) * scale + state.addends.from(at + half * LANES);
            for (int lane = 0; lane < LANES; ++lane)
                if (here >> (half * LANES + lane) & 1) list.push_back({at + half * LANES + lane, liked[lane]});
        }
    }
    if (static_cast<std::int64_t>(list.size()) <= wanted) return;
    std::nth_element(list.begin(), list.begin() + wanted, list.end(), by_bound);
    work.floors.clear();
    for (std::int64_t i = 0; i < wanted; i += DOCUMENTS_AT_ONCE) {
        std::int64_t which[DOCUMENTS_AT_ONCE];
        float above[DOCUMENTS_AT_ONCE], below[DOCUMENTS_AT_ONCE];
        const int count = static_cast<int>(std::min<std::int64_t>(DOCUMENTS_AT_ONCE, wanted - i));
        for (int j = 0; j < count; ++j) which[j] = list[i + j].document;
        work.rescorer.bounds(query, which, count, above, below);
        for (int j = 0; j < count; ++j) work.floors.push_back(state.addends.below(below[j], which[j]));
    }
    std::nth_element(work.floors.begin(), work.floors.begin() + (k - 1), work.floors.end(), std::greater<double>());
    state.raise(work.floors[k - 1]);
}

// Scores the candidates [from, to), best bound first, until a bound is below the k-th best score. Returns how many in float32.
static std::int64_t score_in_order(QueryState& state, Work& work, Best& best, std::size_t from, std::size_t to) {
    const Query& query = *state.query;
    std::vector<Candidate>& list = work.found;
    std::sort(list.begin() + from, list.begin() + to, by_bound);
    std::size_t i = from;
    while (i < to && !(list[i].bound < state.reach())) {
        std::int64_t which[DOCUMENTS_AT_ONCE];
        float bounds[DOCUMENTS_AT_ONCE];
        int count = 0;
        for (; count < DOCUMENTS_AT_ONCE && i < to; ++count, ++i) which[count] = list[i].document;
        work.rescorer.bounds(query, which, count, bounds, nullptr);
        for (int k = 0; k < count; ++k) {
            if (state.addends.above(bounds[k], which[k]) < state.reach()) continue;
            best.offer({work.rescorer.score(query, which[k]) + state.addends.at(which[k]), which[k]});
            if (best.full()) state.raise(best.heap.front().score);
        }
    }
    return static_cast<std::int64_t>(i - from);
}

// Scores the documents that the screen left, best bound first. Returns how many were scored in float32.
static std::int64_t rescore(QueryState& state, Work& work, Best& best) {
    const Query& query = *state.query;
    std::vector<Candidate>& list = work.found;
    if (query.m > 3 * query.r && query.r > 0) {
        const float threshold = state.reach();
        std::size_t kept = 0;
        for (const Candidate& candidate : list) {
            const float alone = work.rescorer.bound_along_directions(query, candidate.document);
            const float bound = std::min(candidate.bound, state.addends.above(alone, candidate.document));
            if (!(bound < threshold)) list[kept++] = {candidate.document, bound};
        }
        list.resize(kept);
    }
    const std::size_t few = std::min<std::size_t>(list.size(), FIRST);
    std::nth_element(list.begin(), list.begin() + few, list.end(), by_bound);
    const std::int64_t scored = score_in_order(state, work, best, 0, few);
    // They have raised the threshold, and most of the others need not be sorted now.
    const float threshold = state.reach();
    const auto below = [threshold](const Candidate& one) { return one.bound < threshold; };
    list.erase(std::remove_if(list.begin() + few, list.end(), below), list.end());
    return scored + score_in_order(state, work, best, few, list.size());
}

// The first look to begin with: one that leaves little of the codes out.
static int first_screen(const Query& query) {
    if (query.r == 0) return NO_SCREEN;
    int screen = 0;
    while (screen + 1 < static_cast<int>(query.looks.size()) && query.looks[screen].slack.most_left > ENOUGH * query.longest) ++screen;
    return screen;
}

// The screen for the next chunk, from what this one's cost, in 64-byte multiplications.
//
// A look costs d / 4 * 2 for a tile and direction, what the ball leaves some 100 + m r / 16 for a document, scoring one 1,000
// (its row comes from main memory) and m d / 10. Where the rest costs more than more directions would, there are more.
static int next_screen(const Query& query, int screen, std::int64_t left, std::int64_t found, std::int64_t rescored,
                       std::int64_t documents) {
    if (screen == NO_SCREEN) return screen;
    if (screen == ALL_CODES) return found * 4 > 3 * documents ? NO_SCREEN : screen;
    if (rescored * 4 > documents) return query.m > query.r ? ALL_CODES : NO_SCREEN;
    const std::int64_t direction = documents / TILE * (query.d / STEP) * HALVES;
    const int last = static_cast<int>(query.looks.size()) - 1, r = query.looks[screen].r;
    const std::int64_t after = left * (100 + query.m * r / LANES) + found * (1000 + query.r * (query.d + query.m) / 10) +
                               rescored * query.m * query.d / 10;
    if (screen < last && after > direction * (query.looks[screen + 1].r - r)) return screen + 1;
    if (screen > 0 && after * 8 < direction * (r - query.looks[screen - 1].r)) return screen - 1;
    return screen;
}

// The selection's tiles [first, last).
static void search_chunk(QueryState& state, const Tiles& tiles, const Selection& selection, std::int64_t first, std::int64_t last,
                         Work& work, Best& best, Counts& counts) {
    const Query& query = *state.query;
    std::vector<Candidate>& found = work.found;
    found.clear();
    const float threshold = state.reach();
    const int screen = state.screen.load(std::memory_order_relaxed);
    const std::int64_t documents = (last - first) * TILE;
    std::int64_t left = documents;
    if (screen < ALL_CODES) {
        left = screen_low_rank(query, query.looks[screen], tiles, selection, state.addends, first, last, threshold, found);
    } else if (screen == ALL_CODES) {
        std::call_once(state.all_codes_made, [&] { state.all_codes.reset(new AllCodes(query)); });
        screen_all_codes(query, *state.all_codes, tiles, selection, state.addends, first, last, threshold, found);
    } else {
        for_each(selection, first, last, [&](std::int64_t i) { found.push_back({i, std::numeric_limits<float>::infinity()}); });
    }
    const std::int64_t passed = static_cast<std::int64_t>(found.size()), rescored = rescore(state, work, best);
    counts.screened += passed;
    counts.rescored += rescored;
    if (!std::isinf(threshold)) {  // without one nothing can be dismissed, and nothing learnt from that
        const int next = next_screen(query, screen, left, passed, rescored, documents);
        if (next != screen) state.screen.store(next, std::memory_order_relaxed);
    }
}

// Codes [q][m][d], addends [q][padded n] or null; the hits of query i to out[i k ... ], best first. Returns what was done.
static Counts search(const Documents& documents, const Tiles& tiles, const Selection& selection, const double* codes,
                     const float* addends, std::int64_t queries, int m, double temperature, std::int64_t k, int threads, Hit* out) {
    const std::int64_t d = documents.d, width = (d + LANES - 1) / LANES * LANES;
    const std::int64_t chunks = (selection.count + CHUNK - 1) / CHUNK;
    threads = static_cast<int>(std::max<std::int64_t>(1, std::min<std::int64_t>(threads, chunks)));
    // As many queries at a time as leave what is kept of them, and of their best, within 16 MB.
    const std::int64_t each = m * d * 16 + threads * k * static_cast<std::int64_t>(sizeof(Hit));
    const std::int64_t at_once = std::max<std::int64_t>(1, std::min<std::int64_t>(queries, (16 << 20) / each));
    std::vector<Counts> counts(threads);
    std::vector<std::unique_ptr<Work>> work(threads);
    for (std::int64_t start = 0; start < queries; start += at_once) {
        const std::int64_t number = std::min(at_once, queries - start);
        std::vector<QueryState> states(number);
        parallel(threads, number, [&](int thread, std::int64_t i) {
            if (!work[thread]) work[thread].reset(new Work(documents, width, m));
            QueryState& state = states[i];
            if (addends) state.addends.of = addends + (start + i) * padded(documents.n);
            const bool few = selection.count * m <= FEW;
            state.query.reset(new Query(codes + (start + i) * m * d, m, d, temperature, !few));
            state.screen = few ? ALL_CODES : first_screen(*state.query);
            open(state, tiles, selection, k, *work[thread]);
        });
        std::vector<Best> bests(threads * number);
        for (Best& best : bests) best.k = static_cast<std::size_t>(k);
        parallel(threads, chunks, [&](int thread, std::int64_t chunk) {
            if (!work[thread]) work[thread].reset(new Work(documents, width, m));
            const std::int64_t first = chunk * CHUNK, last = std::min(first + CHUNK, selection.count);
            for (std::int64_t i = 0; i < number; ++i) {
                Best& best = bests[thread * number + i];
                if (states[i].query->m > 0)
                    search_chunk(states[i], tiles, selection, first, last, *work[thread], best, counts[thread]);
                else  // no code at all: every score is 0, and the first documents are the best
                    for_each(selection, first, last, [&](std::int64_t j) { best.offer({states[i].addends.at(j), j}); });
            }
        });
        parallel(threads, number, [&](int, std::int64_t i) {
            std::vector<Hit> all;
            for (int thread = 0; thread < threads; ++thread) {
                const std::vector<Hit>& some = bests[thread * number + i].heap;
                all.insert(all.end(), some.begin(), some.end());
            }
            std::sort(all.begin(), all.end(), better);
            all.resize(k, Hit{-std::numeric_limits<double>::infinity(), -1});  // where fewer were allowed
            std::copy_n(all.begin(), k, out + (start + i) * k);
        });
    }
    Counts total;
    for (const Counts& one : counts) total.screened += one.screened, total.rescored += one.rescored;
    return total;
}

// Inner products of single vectors [q][d] with every document in 8 bits on both sides, to out [q][n]: to about two digits.
static void estimate(const Documents& documents, const Tiles& tiles, const double* vectors, std::int64_t queries, int threads,
                     float* out) {
    const std::int64_t n = documents.n, d = documents.d, all = padded(n) / TILE;
    for (std::int64_t start = 0; start < queries; start += AT_ONCE) {
        const int count = static_cast<int>(std::min<std::int64_t>(AT_ONCE, queries - start));
        EightBit rounded(count, AT_ONCE, d);
        std::vector<double> values(d);
        for (int i = 0; i < count; ++i) {
            std::copy_n(vectors + (start + i) * d, d, values.data());
            rounded.set(i, values.data(), d);
        }
        parallel(threads, (all + CHUNK - 1) / CHUNK, [&](int, std::int64_t chunk) {
            v16i products[AT_ONCE][HALVES];
            for (std::int64_t tile = chunk * CHUNK; tile < std::min(all, (chunk + 1) * CHUNK); ++tile) {
                multiply_all(tiles, tile * TILE, rounded, d, 0, count, products);
                for (int i = 0; i < count; ++i)
                    for (int half = 0; half < HALVES; ++half) {
                        const std::int64_t at = tile * TILE + half * LANES;
                        const v16 product = to_float(products[i][half]) * (load(tiles.scale + at) * rounded.scale[i]);
                        for (int lane = 0; lane < LANES && at + lane < n; ++lane) out[(start + i) * n + at + lane] = product[lane];
                    }
            }
        });
    }
}
