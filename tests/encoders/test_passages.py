"""Passages: together they hold all of a document, each is read whole, and neighbours overlap."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyencoders import BiEncoder, CrossEncoder
from polyencoders.encoders.passages import best_passages, passages_of, room_of
from polyencoders.errors import ModelError

WORDS = ["tea", "is", "served", "at", "unbelievably", "supercalifragilistic", "biscuits,", "naïve", "東京", "🍵"]
LENGTH = 16


@pytest.fixture(scope="module")
def short(tiny_backbone):
    return BiEncoder(tiny_backbone, document_length=LENGTH)


@settings(max_examples=60)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=90), gap=st.sampled_from([" ", "\n\n", ""]))
def test_nothing_of_a_document_is_left_unseen(short, words, gap):
    text = gap.join(f"{word}<{place}>" for place, word in enumerate(words))  # every part of it is there once
    (passages,) = passages_of(short, [text])
    reached = 0
    for passage in passages:
        found = text.find(passage)
        assert found >= 0
        assert not text[reached:found].strip(), "a gap between passages"
        reached = max(reached, found + len(passage))
    assert reached == len(text)
    if gap:  # words are whole, so they are the same tokens as in the document
        assert all(len(tokens) <= LENGTH + 2 for tokens in short.tokens_of(passages))
    assert (len(passages) == 1) == (len(short.tokens_of([text])[0]) <= LENGTH)


def test_neighbours_share_about_a_fifth(short):
    numbers = [str(number % 10) for number in range(100)]  # a token each
    (passages,) = passages_of(short, [" ".join(numbers)])
    room = room_of(short)
    assert room == LENGTH - 2
    parts = [passage.split() for passage in passages]
    assert all(len(part) == room for part in parts[:-1])
    assert all(before[-(room // 5) :] == after[: room // 5] for before, after in pairwise(parts))


def test_a_prompt_takes_its_room(tiny_backbone):
    prompted = BiEncoder(tiny_backbone, document_length=LENGTH, prompts={"document": "passage : "})
    assert room_of(prompted) == LENGTH - 4
    full = BiEncoder(tiny_backbone, document_length=4, prompts={"document": "passage : "})
    with pytest.raises(ModelError, match="leaves no room"):
        passages_of(full, ["tea"])


def test_who_reads_pairs_is_refused(tiny_backbone):
    with pytest.raises(ModelError, match="reads a query and a document together"):
        passages_of(CrossEncoder(tiny_backbone), ["tea"])


def test_the_best_passage_counts():
    assert best_passages(np.array([3.0, 1.0, 2.0, 9.0]), [["a"], ["b", "c"], ["d"]]).tolist() == [3, 2, 9]
    assert best_passages(np.empty(0), []).tolist() == []
