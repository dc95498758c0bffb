"""Conversations read from JSON Lines and from plain text, and held out whole."""

import json

import pytest

from polyencoders.data.chitchat import chitchat
from polyencoders.data.conversations import load_conversations, read_conversations
from polyencoders.errors import DataError


def test_lists_and_objects_of_turns_and_plain_text_say_the_same(tmp_path):
    talks = [["Hi!", "Hello."], ["Tea?", "Yes.", "Milk?"]]
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(talks[0])}\n\n{json.dumps({'turns': talks[1], 'id': 7})}\n")
    (tmp_path / "b.txt").write_text("\nHi!\nHello.\n \n\nTea?\n Yes.\nMilk?")
    assert read_conversations(tmp_path / "a.jsonl") == read_conversations(tmp_path / "b.txt") == talks


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "Hi"}', r"talks.jsonl:1: expected a list of turns"),
        ("[]", r"talks.jsonl:1: expected a list of turns"),
        ('["Hi", " "]', r"talks.jsonl:1: turn 2 of 2: the text is empty"),
        ("", r"no conversations"),
    ],
)
def test_errors_name_the_line(tmp_path, line, message):
    (tmp_path / "talks.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        read_conversations(tmp_path / "talks.jsonl")


def test_a_conversation_is_on_one_side(tmp_path):
    talks = [[f"question {i % 30}", f"answer {i % 30}"] for i in range(60)] + [["alone"]]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    train, validation = load_conversations(tmp_path / "talks.jsonl")
    assert (len(train), len(validation)) == (27, 3)
    assert sorted(train + validation) == sorted([list(talk) for talk in {tuple(talk) for talk in talks[:60]}])


def test_of_the_built_in_set_nothing_is_read_that_models_are_tested_on():
    pytest.importorskip("chitchat_dataset")
    train, validation = load_conversations("chitchat")
    splits = chitchat()
    assert sum(len(talk) - 1 for talk in train) == len(splits.train)
    assert sum(len(talk) - 1 for talk in validation) == len(splits.validation)


def test_self_dialogue_by_its_name(tmp_path):
    rows = "".join(f"Question {i}?,Answer {i}.\n" for i in range(20))
    (tmp_path / "batch.csv").write_text("Answer.sentence1,Answer.sentence2\n" + rows)
    train, validation = load_conversations(f"self-dialogue:{tmp_path}")
    assert (len(train), len(validation)) == (18, 2)
    assert sorted(train + validation) == sorted([f"Question {i}?", f"Answer {i}."] for i in range(20))
