"""Words beside vectors: BM25 of all documents of a version, wherever they lie, and the k best by the sum, proven."""

import math
import re
from collections import Counter

import bm25s
import numpy as np
import pytest

from polyencoders.encoders import Words
from polyencoders.encoders.words import Postings
from polyencoders.index import Index

QUERIES = ["amber birch 7", "cedar cedar delta", "nothing of it", "ocean north ocean lagoon 3 12"]
LANGUAGES = ["en", "de"]


def fits(query, texts):
    """BM25 over what the query's words could give, by id, in float64."""
    words = {id: Counter(re.findall(r"\w+", text.lower())) for id, text in texts.items()}
    lengths = {id: sum(found.values()) for id, found in words.items()}
    mean = sum(lengths.values()) / max(1, len(texts))
    fit, most = dict.fromkeys(texts, 0.0), 0.0
    for word in set(re.findall(r"\w+", query.lower())):
        having = [id for id in texts if word in words[id]]
        idf = math.log(1 + (len(texts) - len(having) + 0.5) / (len(having) + 0.5))
        most += idf
        for id in having:
            saturation = 1.5 * (0.25 + 0.75 * lengths[id] / mean)
            fit[id] += idf * words[id][word] / (words[id][word] + saturation)
    return {id: value / most for id, value in fit.items()}


def codes_of(seed, q=4, m=3, d=16):
    generator = np.random.default_rng(seed)
    codes = generator.standard_normal((q, 1, d)) + 0.3 * generator.standard_normal((q, m, d))
    return codes / np.linalg.norm(codes, axis=-1, keepdims=True)


def add(index, truth, rows, seed):
    """Documents with vectors of length 1, in clusters."""
    generator = np.random.default_rng(seed)
    vectors = np.random.default_rng(0).standard_normal((5, 16))[generator.integers(5, size=len(rows))]
    vectors = vectors + 0.5 * generator.standard_normal(vectors.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    by_text = {row["text"]: vector for row, vector in zip(rows, vectors, strict=True)}
    index.add(rows, encode=lambda texts, done: np.stack([by_text[text] for text in texts]))
    truth.put(rows, vectors)


def rows_of(texts, seed, start=0):
    return [
        {"id": f"{start + i}", "text": f"{text} {i % 13}", "lang": LANGUAGES[i % 2]}
        for i, text in enumerate(texts(400, seed))
    ]


@pytest.fixture(params=["laid out", "beside", "both"])
def filled(request, tmp_path, small, monkeypatch, texts, truth, build):
    """An index whose documents lie in a layout, beside one, or both; some deleted, some replaced."""
    if request.param == "beside":
        monkeypatch.setattr("polyencoders.index.index.LAID_OUT_FROM", 10_000)
    index = Index.from_vectors(tmp_path / "index", np.eye(16)[:1], [{"id": "first", "text": "Amber."}])
    truth.put([{"id": "first", "text": "Amber."}], np.eye(16)[:1].astype(np.float32))
    add(index, truth, rows_of(texts, 1), 1)
    if request.param == "laid out":
        index.compact()
    if request.param == "both":
        monkeypatch.setattr("polyencoders.index.index.LAID_OUT_FROM", 10_000)
    add(index, truth, rows_of(texts, 2, start=300)[:150], 2)
    index.delete(where="id LIKE '%7'")
    truth.drop(lambda id, _: id.endswith("7"))
    return index


def expected(truth, codes, query, weight, keep=lambda metadata: True):
    fit = fits(query, {id: text for id, (_, text, _) in truth.documents.items()})
    return {id: score + weight * fit[id] for id, score in truth.scores(codes, 0.1, keep).items()}


@pytest.mark.parametrize("options", [{}, {"where": "lang = 'en'"}, {"mode": "fast", "share": 0.2}], ids=str)
@pytest.mark.parametrize("weight", [0.3, 40.0])
def test_the_best_by_vectors_and_words(filled, truth, weight, options):
    codes = codes_of(3)
    answers = filled.search(codes, 7, temperature=0.1, words=weight, texts=QUERIES, **options)
    for answer, some, query in zip(answers, codes, QUERIES, strict=True):
        keep = (lambda metadata: metadata.get("lang") == "en") if "where" in options else (lambda metadata: True)
        scores = expected(truth, some, query, weight, keep)
        ours = {hit.id: hit.score for hit in answer}
        for id, score in ours.items():
            assert score == pytest.approx(scores[id], abs=2e-7 * max(1, weight))
        others = max(score for id, score in scores.items() if id not in ours)
        assert others <= answer.bound + 2e-7 * max(1, weight)
        if answer.certified:
            best = sorted(scores.values(), reverse=True)[:7]
            np.testing.assert_allclose(list(ours.values()), best, atol=2e-7 * max(1, weight))
    assert all(answer.certified for answer in answers) or options.get("mode") == "fast"


def test_a_layout_changes_no_score(filled):
    codes = codes_of(4)

    def found():
        answers = filled.search(codes, 20, words=0.5, texts=QUERIES)
        return [[(hit.id, hit.score) for hit in answer] for answer in answers]

    before, version = found(), filled.version
    filled.compact()
    assert found() == before
    earlier = Index.open(filled.path, version=version)
    answers = earlier.search(codes, 20, words=0.5, texts=QUERIES)
    assert [[(hit.id, hit.score) for hit in answer] for answer in answers] == before


def test_a_layout_of_an_earlier_release_has_no_words(filled):
    codes = codes_of(5)
    before = [list(answer) for answer in filled.search(codes, 20, words=0.5, texts=QUERIES)]
    for file in filled.path.glob("search/*/words.*"):
        file.unlink()
    again = Index.open(filled.path)
    assert [list(answer) for answer in again.search(codes, 20, words=0.5, texts=QUERIES)] == before


@pytest.mark.parametrize("language", ["none", "english"])
def test_bm25_is_that_of_bm25s(texts, language):
    corpus = [*texts(300, 9), "Birches, and the ambers of it", "", "the the the"]
    asked = Words().asked(["the birch is amber", "delta 12 heath"], language)
    postings = Postings.of(corpus, language)
    fit = postings.fit(asked, postings.totals({word for words in asked for word in words}))
    import Stemmer

    split = {} if language == "none" else {"stopwords": "english", "stemmer": Stemmer.Stemmer("english")}
    tokens = bm25s.tokenize(corpus, token_pattern=r"\w+", **{"stopwords": None, **split}, show_progress=False)
    theirs = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    theirs.index(tokens, show_progress=False)
    for words, row in zip(asked, fit, strict=True):
        most = sum(postings.totals([word]).idf(word) for word in words)
        scores = theirs.get_scores([word for word in words if word in tokens.vocab])
        np.testing.assert_allclose(row, scores / most, atol=1e-6)


def test_the_last_turns_of_a_conversation():
    words = Words(turns=2)
    assert words.asked([["one", "two", "three two"], "four"], "none") == [["two", "three"], ["four"]]


def test_texts_of_a_query_and_of_codes(tmp_path, bi):
    index = Index.create(tmp_path / "index", bi, words_language="english")
    index.add(["Pancakes with syrup.", "The weather is fine.", "I teach children."])
    answer = index.search("syrups", k=1, words=5.0)
    assert answer[0].text == "Pancakes with syrup."
    codes = bi.encode_queries(["syrups"])
    assert index.search(codes, k=1, words=5.0, texts=["syrups"])[0].hits == answer.hits
    assert index.search("syrups", words=0.0).hits == index.search("syrups").hits
    with pytest.raises(ValueError, match="codes have none; give the queries as texts"):
        index.search(codes, words=True)
    with pytest.raises(ValueError, match="2 for 1 queries"):
        index.search(codes, words=True, texts=["a", "b"])
    with pytest.raises(ValueError, match="expected True or a weight of at least 0, got -1"):
        index.search("syrups", words=-1)
    with pytest.raises(ValueError, match="must be one of none, danish"):
        Index.create(tmp_path / "other", bi, words_language="latin")


def test_a_bucket_and_adding_in_steps_are_as_a_folder_at_once(
    place, tmp_path, bi, texts, small, object_storage, monkeypatch
):
    monkeypatch.setenv("POLYENCODERS_CACHE", str(tmp_path / "cache"))
    rows = rows_of(texts, 1)

    def found(where, steps):
        index = Index.create(where, bi)
        for start in range(0, len(rows), len(rows) // steps):
            index.add(rows[start : start + len(rows) // steps], bf16=False)
        answers = index.search(codes_of(5), 20, words=3.0, texts=QUERIES)
        return [[(hit.id, hit.score) for hit in answer] for answer in answers]

    at_once = found(tmp_path / "folder", 1)
    assert found(tmp_path / "steps", 4) == at_once
    assert found(place, 2) == at_once
