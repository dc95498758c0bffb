// Every bound that the search relies on, for every document: what the tests hold against the score itself.

// Appends, for each screen and then for the rescoring: n upper bounds; last, n lower bounds.
static std::vector<float> bounds(const Documents& documents, const Tiles& tiles, const double* codes, int m, double temperature) {
    const float none = -std::numeric_limits<float>::infinity();
    const Selection every{nullptr, padded(documents.n) / TILE, nullptr, documents.n};
    const Query query(codes, m, documents.d, temperature);
    Rescorer rescorer(documents, query.width, m);
    std::vector<float> all;
    std::vector<Candidate> found;
    const auto append = [&] {
        for (const Candidate& candidate : found) all.push_back(candidate.bound);
        found.clear();
    };
    for (const Look& look : query.looks) {
        screen_low_rank(query, look, tiles, every, Addends{}, 0, every.count, none, found);
        append();
    }
    if (query.m > 0) {
        screen_all_codes(query, AllCodes(query), tiles, every, Addends{}, 0, every.count, none, found);
        append();
    }
    if (query.r > 0)
        for (std::int64_t i = 0; i < documents.n; ++i) all.push_back(rescorer.bound_along_directions(query, i));
    std::vector<float> below(documents.n);
    for (std::int64_t i = 0; i < documents.n; ++i) {
        float above;
        rescorer.bounds(query, &i, 1, &above, &below[i]);
        all.push_back(above);
    }
    all.insert(all.end(), below.begin(), below.end());
    return all;
}
