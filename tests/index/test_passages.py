"""Documents kept as passages: each found once, by its best passage, as if all passages were scored one by one."""

import numpy as np
import pytest

from polyencoders.encoders.passages import passages_of
from polyencoders.errors import DataError
from polyencoders.index import Index, verify
from polyencoders.index.passages import kept_texts, passages_with

LENGTH = 10


@pytest.fixture(scope="module")
def short(build):
    return build("PolyEncoder", m=3, document_length=LENGTH)


def long_texts(texts, number):
    """Documents of one to a dozen passages."""
    parts = texts(6 * number)
    return [" ".join(parts[6 * i : 6 * i + 1 + i % 6]) for i in range(number)]


@pytest.fixture(scope="module")
def rows(texts):
    return [{"id": f"d{i}", "text": text, "even": i % 2 == 0} for i, text in enumerate(long_texts(texts, 120))]


@pytest.fixture(scope="module")
def index(short, rows, tmp_path_factory, small_for_all):
    index = Index.create(tmp_path_factory.mktemp("passages") / "index", short)
    index.add(rows, passages=True)
    return index


QUERIES = ["amber fjord", "north ocean lagoon"]


@pytest.fixture(scope="module")
def best(short, rows):
    """By query: the score of each document's best passage, passage by passage."""
    passages = passages_of(short, [row["text"] for row in rows])
    ids = [row["id"] for row in rows]
    of_each = {query: short.score_lists([query] * len(ids), passages) for query in QUERIES}
    return {query: dict(zip(ids, map(max, scores), strict=True)) for query, scores in of_each.items()}


@pytest.mark.parametrize("k", [1, 7, 60, 500])
@pytest.mark.parametrize("where", [None, "even = true"])
def test_a_document_is_found_once_by_its_best_passage(index, best, rows, k, where):
    kept = [row["id"] for row in rows if where is None or row["even"]]
    for query, answer in zip(QUERIES, index.search(QUERIES, k=k, where=where), strict=True):
        scores = {id: best[query][id] for id in kept}
        expected = sorted(scores.values(), reverse=True)[:k]
        np.testing.assert_allclose([hit.score for hit in answer], expected, rtol=1e-5)
        assert len({hit.id for hit in answer}) == len(answer) == min(k, len(kept))
        assert answer.certified
        assert all(scores[hit.id] == pytest.approx(hit.score, rel=1e-5) for hit in answer)
        assert all(hit.text in rows[int(hit.id[1:])]["text"] for hit in answer)
        others = [score for id, score in scores.items() if id not in {hit.id for hit in answer}]
        assert not others or max(others) <= answer.bound + 1e-5


def test_what_fast_search_says_holds_of_documents(index, best):
    answer = index.search("amber fjord", k=5, mode="fast", share=0.1)
    scores = best["amber fjord"]
    others = max(score for id, score in scores.items() if id not in {hit.id for hit in answer})
    assert others - answer.hits[-1].score <= answer.error + 1e-5


def test_many_passages_of_one_document_do_not_hide_the_others(short, texts, tmp_path):
    index = Index.create(tmp_path / "index", short)
    index.add(
        [{"id": "long", "text": "amber fjord " * 500}, *({"id": i, "text": "tea"} for i in range(3))], passages=True
    )
    assert len(index) > 100
    assert [hit.id for hit in index.search("amber fjord", k=2)][:1] == ["long"]
    assert len(index.search("amber fjord", k=4)) == 4
    words = index.search(["amber fjord", "tea"], k=3, words=0.5)
    assert [len({hit.id for hit in answer}) for answer in words] == [3, 3]


@pytest.mark.parametrize("at_once", [False, True])
def test_a_document_that_changes_leaves_no_passage_behind(short, tmp_path, at_once):
    index = Index.create(tmp_path / "index", short)

    def add(rows, passages=True):
        if not at_once:
            return index.add(rows, passages=passages)
        pytest.importorskip("lance", reason="needs polyencoders[ray]")
        return index.add_at_once(rows, work, passages=passages)

    def work(jobs):
        for job in jobs:
            table = Index.open(job.index)._writer.at(job.version)
            yield job.number, job.run(table, lambda texts, done: short.encode_documents(texts, advance=done))

    add([{"id": "a", "text": "amber " * 40}, {"id": "b", "text": "birch"}])
    whole = len(index)
    assert add([{"id": "a", "text": "amber " * 40}]).encoded == 0
    add([{"id": "a", "text": "amber " * 20}])
    shorter = len(index)
    assert 2 < shorter < whole
    add([{"id": "b", "text": "birch " * 40}])  # whole before, in passages now
    assert {row["id"] for row in index.get(["b"])} == {f"b [passage {i}]" for i in range(1, len(index) - shorter + 2)}
    add([{"id": "a", "text": "cedar " * 40}], passages=False)  # in passages before, whole now
    assert [row["text"] for row in index.get(["a"])] == ["cedar " * 40]
    index.delete(["b"])
    assert len(index) == 1
    assert [hit.id for hit in index.search("birch", k=9)] == ["a"]


def test_a_chunk_that_fails_keeps_nothing_that_the_chunks_before_replaced(short, tmp_path):
    index = Index.create(tmp_path / "index", short)
    before = [{"id": id, "text": f"{word} " * 40} for id, word in (("a", "amber"), ("z", "cedar"))]
    index.add([*before, {"id": "b", "text": "birch"}], passages=True)
    of_z = index.get(["z"])
    later = [{"id": "a", "text": "short now"}, {"id": "b", "text": "birch " * 40}]
    later += [{"id": str(number), "text": f"text {number}"} for number in range(400)]
    with pytest.raises(DataError, match="the text is empty"):
        index.add([*later, {"id": "z", "text": "short too"}, {"id": "bad", "text": ""}], passages=True, chunk=100)
    assert [row["text"] for row in index.get(["a"])] == ["short now"]
    assert [row["passage"] for row in index.get(["b"])] == list(range(1, len(index.get(["b"])) + 1))
    assert not [hit for hit in index.search("amber amber", k=1000) if "amber" in (hit.text or "")]
    assert index.get(["z"]) == of_z, "it was not written, and what it had is there"


def test_passages_are_read_in_order(index, short, rows):
    (passages,) = passages_of(short, [rows[5]["text"]])
    read = index.get(["d5"])
    assert [row["text"] for row in read] == passages
    assert [(row["passage_of"], row["passage"], row["even"]) for row in read] == [
        ("d5", number, False) for number in range(1, len(passages) + 1)
    ]


def test_names_of_its_own_are_refused(short, tmp_path):
    index = Index.create(tmp_path / "index", short)
    with pytest.raises(DataError, match="'passage' has a name by which an index knows passages: rename it"):
        index.add([{"id": 1, "text": "amber " * 40, "passage": "x"}], passages=True)
    for metadata in ({"passage_of": "a", "passage": 7}, {"passage_of": "a"}, {"passage_of": 1, "passage": 1}):
        with pytest.raises(DataError, match=r"document 1 \(id 'b'\): its metadata 'passage_of' .* rename it, or give"):
            index.add([{"id": "a", "text": "tea"}, {"id": "b", "text": "coffee", **metadata}])
    with pytest.raises(DataError, match=r"document 0 \(id 'xxx.*kept as 6 passages.* at most 988 characters, got 990"):
        index.add([{"id": "x" * 990, "text": "amber " * 40}], passages=True)
    assert len(index) == 0
    with pytest.raises(TypeError, match="expected a list of texts"):
        index.add("amber", passages=True)


def test_passages_that_were_read_can_be_added_again(index, short, tmp_path):
    read = index.get(["d5", "d0"])
    assert len(read) > 2
    for passages in (False, True):
        again = Index.create(tmp_path / str(passages), short)
        again.add(read, passages=passages)
        assert again.get(["d5", "d0"]) == read
        assert {hit.id for hit in again.search("amber", k=9)} == {"d5", "d0"}


def test_how_a_text_is_kept(index, short, rows, tmp_path):
    texts = [row["text"] for row in rows]
    of_each = passages_of(short, texts)
    assert passages_with(index, texts) == of_each
    kept = kept_texts(index, [*texts, "never seen", texts[5] + " and more"])
    assert list(kept) == texts
    for row, passages in zip(rows, of_each, strict=True):
        assert row["id"] in kept[row["text"]].ids
        np.testing.assert_allclose(kept[row["text"]].vectors, short.encode_documents(passages), atol=1e-5)
    begin = next(passages for passages in of_each if len(passages) > 2)
    index = Index.create(tmp_path / "index", short)
    whole = rows[of_each.index(begin)]["text"]
    index.add([{"id": "a", "text": whole}, {"id": "b", "text": "tea"}], passages=True)
    index.add([{"id": "c", "text": whole}, {"id": "d", "text": begin[0]}])
    assert kept_texts(index, [whole])[whole].ids == {"a", "c"}
    assert kept_texts(index, [begin[0]])[begin[0]].ids == {"a", "d"}, "the passage alone is that text as well"
    assert not kept_texts(index, ["milk"])
    assert verify(index.path) == []


def test_the_beginning_of_a_longer_document_is_not_that_document(short, texts, tmp_path):
    whole = " ".join(texts(20))
    (passages,) = passages_of(short, [whole])
    beginning = whole[: whole.index(passages[2]) + len(passages[2])]
    assert passages_of(short, [beginning]) == [passages[:3]]
    index = Index.create(tmp_path / "index", short)
    index.add([{"id": "long", "text": whole}], passages=True)
    assert list(kept_texts(index, [beginning, whole])) == [whole]


def test_a_reranker_reads_the_best_passage(index):
    class Reader:
        def score_pairs(self, pairs, batch_size=32):
            read.extend(text for _, text in pairs)
            return np.arange(len(pairs), dtype=float)

    read = []
    plain = index.search("amber fjord", k=6)
    answer = index.search("amber fjord", k=6, rerank=Reader(), rerank_top=6)
    assert sorted(read) == sorted(hit.text for hit in plain)
    assert {hit.id for hit in answer} == {hit.id for hit in plain}
    assert answer.read == 6
