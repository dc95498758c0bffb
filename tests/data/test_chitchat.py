"""The built-in set: its published counts, and no conversation on two splits."""

import importlib.resources
from itertools import pairwise

import pytest

from polyencoders.data import chitchat, chitchat_replies, load_examples
from polyencoders.data.chitchat import conversations
from polyencoders.errors import DataError, MissingExtraError


@pytest.fixture(scope="module")
def splits():
    pytest.importorskip("chitchat_dataset")
    return chitchat()


def test_counts(splits):
    all_conversations = conversations()
    assert len(all_conversations) == 7_168
    # Published: 131,569 pairs of 138,737 messages; 12 of the messages are empty, and each ends one pair.
    assert sum(map(len, all_conversations)) == 138_737 - 12
    assert sum(len(split) for split in (splits.train, splits.validation, splits.test)) == 131_569 - 12


def test_fractions(splits):
    total = 131_557
    assert abs(len(splits.train) / total - 0.8) < 0.02
    assert abs(len(splits.validation) / total - 0.1) < 0.02
    assert abs(len(splits.test) / total - 0.1) < 0.02


def test_the_split_does_not_move(splits):
    """Results are compared across versions, machines and hash seeds: the split is part of what was measured."""
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [106_112, 13_244, 12_201]
    assert splits.test[0].query == ("Hey!",)


def test_no_conversation_on_two_splits(splits):
    """Follows each conversation's own long turns, which nobody else wrote, to the split they are on."""
    side_of = {}
    for name in ("train", "validation", "test"):
        for example in getattr(splits, name):
            side_of.setdefault((example.query[-1], example.positives[0]), set()).add(name)
    for conversation in conversations():
        pairs = [pair for pair in pairwise(conversation) if len("".join(pair)) > 100]
        assert len(set().union(*(side_of[pair] for pair in pairs))) <= 1


def test_turns(splits):
    assert max(len(example.query) for example in splits.validation) == 3
    assert {len(example.query) for example in chitchat(turns=1).test} == {1}
    with pytest.raises(DataError, match="turns=0: expected 1 or more"):
        chitchat(turns=0)


def test_by_name(splits):
    assert load_examples("chitchat") == splits


def test_replies(splits):
    replies = chitchat_replies()
    assert len(replies) == 125_220
    assert all(reply.keys() == {"text"} for reply in replies)
    answers = [example.positives[0] for split in (splits.train, splits.validation, splits.test) for example in split]
    assert {reply["text"] for reply in replies} == set(answers)
    in_order = list(dict.fromkeys(text for conversation in conversations() for text in conversation[1:]))
    assert [reply["text"] for reply in replies] == in_order


def test_missing_package(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib.resources, "files", missing)
    with pytest.raises(MissingExtraError, match=r'pip install "polyencoders\[demo\]"'):
        chitchat()
    with pytest.raises(MissingExtraError):
        chitchat_replies()
