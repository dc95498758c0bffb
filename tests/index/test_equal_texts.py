"""Equal texts have one vector, and so equal scores and a settled order, however their documents came in."""

import shutil
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyencoders.index import Index

# Lengths differ, so that a text is padded, batched and rounded in another way in every chunk.
TEXTS = [f"{'amber birch ' * (number % 7)}cedar {number}" for number in range(24)]


def random_documents(seed, number):
    """Documents whose texts are repeated at random places, and the sizes of the chunks they come in."""
    generator = np.random.default_rng(seed)
    rows = [{"id": f"d{i}", "text": TEXTS[generator.integers(len(TEXTS))]} for i in range(number)]
    return rows, generator.integers(1, 40, 3).tolist()


def check(index, queries):
    by_text = {}
    stored = index.vectors([f"d{i}" for i in range(len(index))])
    for row in index.get(list(stored)):
        by_text.setdefault(row["text"], []).append(stored[row["id"]])
    assert all((one == vectors[0]).all() for vectors in by_text.values() for one in vectors)
    for how in ({}, {"mode": "fast"}, {"mode": "fast", "share": 0.5}):
        for answer in index.search(queries, k=len(index), **how):
            scores = {hit.text: hit.score for hit in answer}
            assert all(hit.score == scores[hit.text] for hit in answer)
            for _, equal in groupby(answer, key=lambda hit: hit.score):
                ids = [hit.id for hit in equal]
                assert ids == sorted(ids)


@given(seed=st.integers(0, 2**32), number=st.integers(1, 300))
@settings(max_examples=12)
def test_added_in_chunks_of_any_size(small_for_all, poly, tmp_path_factory, seed, number):
    folder = tmp_path_factory.mktemp("equal")
    rows, sizes = random_documents(seed, number)
    index = Index.create(folder / "index", poly)
    cuts = np.linspace(0, number, len(sizes) + 1).astype(int)
    for chunk, start, stop in zip(sizes, cuts[:-1], cuts[1:], strict=True):
        index.add(rows[start:stop], chunk=chunk)
    check(index, ["amber", "cedar 3 birch"])
    shutil.rmtree(folder)


@given(seed=st.integers(0, 2**32), number=st.integers(1, 300))
@settings(max_examples=6)
def test_added_at_once(small_for_all, poly, tmp_path_factory, seed, number):
    pytest.importorskip("lance", reason="needs polyencoders[ray]")
    folder = tmp_path_factory.mktemp("equal")
    rows, (first, chunk, _) = random_documents(seed, number)
    index = Index.create(folder / "index", poly)
    index.add(rows[: number // 3], chunk=first)

    def work(jobs):
        for job in reversed(jobs):
            table = Index.open(job.index)._writer.at(job.version)
            yield job.number, job.run(table, lambda texts, done: poly.encode_documents(texts, None, done))

    index.add_at_once(rows, work, chunk=chunk)
    check(index, ["amber", "cedar 3 birch"])
    shutil.rmtree(folder)


def test_added_by_two_writers_at_the_same_time(poly, tmp_path):
    """While one encodes, the other writes documents with the same texts, encoded in other batches."""
    index, other = (Index.create(tmp_path / "index", poly), Index.open(tmp_path / "index", poly))

    def encode(texts, done):
        for i, text in enumerate(TEXTS):
            other.add([{"id": f"d{i}", "text": text}])
        return poly.encode_documents(texts, None, done)

    index.add([{"id": f"d{len(TEXTS) + i}", "text": text} for i, text in enumerate(TEXTS)], encode=encode)
    check(index, ["amber"])


def test_vectors_that_exist_stay_as_they_are(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    index = Index.from_vectors(tmp_path / "index", vectors, [{"id": i, "text": f"text {i % 2}"} for i in range(6)])
    assert all((index.vectors([i])[str(i)] == vectors[i]).all() for i in range(6))
