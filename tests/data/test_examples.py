"""Examples: what they accept, their errors, and the table made of them."""

import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest

from polyencoders.data import Example, as_examples, training_dataset
from polyencoders.errors import DataError


def test_loose_values_become_tuples():
    example = Example(["Hi!", "Tea?"], ["Yes.", "No.", "Yes."], "Maybe.", ["Maybe.", "No."])
    assert example.query == ("Hi!", "Tea?")
    assert example.positives == ("Yes.", "No.")
    assert example.negatives == ("Maybe.",)
    assert example.candidates == ("Maybe.", "No.")
    assert Example("Tea?", "Yes.") == Example(["Tea?"], ("Yes.",))
    assert Example("Tea?", "Yes.").candidates is None


def test_is_a_value():
    example = Example("Tea?", "Yes.", candidates=["Yes."])
    assert pickle.loads(pickle.dumps(example)) == example
    assert len({example, Example("Tea?", "Yes.", candidates=["Yes."])}) == 1
    with pytest.raises(FrozenInstanceError):
        example.query = ("Milk?",)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"query": ""}, "query: the text is empty, given ''"),
        ({"query": "  \t"}, r"query: the text is empty, given '  \\t'"),
        ({"query": []}, "query: an empty list of turns, expected at least one"),
        ({"query": ["Hi!", ""]}, "query, turn 2 of 2: the text is empty, given ''"),
        ({"query": ["Hi!", 3]}, "query, turn 2 of 2: expected text, given int 3"),
        ({"query": None}, r"query: expected text or a list of texts, given nothing \(null\)"),
        ({"query": {"text": "Hi"}}, "query: expected text or a list of texts, given dict {'text': 'Hi'}"),
        ({"query": b"Hi"}, "query: expected text or a list of texts, given bytes b'Hi'"),
        ({"query": "\ud800"}, "query: not valid Unicode"),
        ({"positives": []}, "positive: an empty list, expected at least one right answer"),
        ({"positives": ["yes", " "]}, "positive, text 2 of 2: the text is empty"),
        ({"positives": 7}, "positive: expected text or a list of texts, given int 7"),
        ({"negatives": [[]]}, r"negative, text 1 of 1: expected text, given list \[\]"),
        ({"negatives": ["no", "yes"]}, "the same text is both a positive and a negative: 'yes'"),
        ({"candidates": ["no", "never"]}, "candidates lack the right answer: none of the 2 equals 'yes'$"),
        ({"candidates": []}, "candidates lack the right answer: none of the 0 equals 'yes'$"),
        ({"candidates": 5}, "candidates: expected text or a list of texts, given int 5"),
        (
            {"positives": ["yes", "oui"], "candidates": ["no"]},
            "none of the 1 equals 'yes' or another of the 2 positives",
        ),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(DataError, match=message):
        Example(**{"query": "really?", "positives": "yes", **fields})


def test_long_texts_are_shortened_in_errors():
    with pytest.raises(DataError) as caught:
        Example("q", "a" * 10_000, negatives="a" * 10_000)
    assert len(str(caught.value)) < 200


def test_training_dataset():
    examples = [Example(["Hi!", "Tea?"], ["Yes.", "Sure."], ["No.", "Never."]), Example("2?", "two", ["1"])]
    assert training_dataset(examples).to_list() == [
        {"query": ["Hi!", "Tea?"], "positive": "Yes.", "negative_1": "No.", "negative_2": "Never."},
        {"query": ["Hi!", "Tea?"], "positive": "Sure.", "negative_1": "No.", "negative_2": "Never."},
        {"query": ["2?"], "positive": "two", "negative_1": "1", "negative_2": ""},
    ]
    assert training_dataset([Example("a", "b"), Example("d", "e")]).column_names == ["query", "positive"]
    with pytest.raises(DataError, match="no examples"):
        training_dataset([])


def test_rows_with_candidates_keep_them():
    rows = [
        {"query": "Tea?", "positive": "Yes."},
        {"query": "Milk?", "positives": ["No."], "negatives": ["Yes."], "candidates": ["No.", "Yes."]},
    ]
    expected = [Example("Tea?", "Yes."), Example("Milk?", "No.", ["Yes."], ["No.", "Yes."])]
    assert as_examples(rows) == as_examples(iter(rows[::-1]))[::-1] == expected
    arrays = pd.DataFrame([row | {"candidates": np.array(row["candidates"])} for row in rows[1:]])
    assert as_examples(arrays) == expected[1:]
    one = {"query": "Tea?", "positive": "Yes.", "candidates": ["Yes.", "No."]}
    absent = pd.DataFrame([one, {"query": "Milk?", "positive": "No."}])
    assert [example.candidates for example in as_examples(absent)] == [("Yes.", "No."), None]
    with pytest.raises(DataError, match=r"row 2: unknown field 'negative', did you mean \"negatives\"\?"):
        as_examples([one, {**one, "negative": "No."}])


def test_wrong_answers_of_tuples():
    given = [("Tea?", "Yes.", None), ("Tea?", "Yes.", "No.", None, ["Never."]), ("Tea?", "Yes.", np.array(["No."]))]
    assert [example.negatives for example in as_examples(given)] == [(), ("No.", "Never."), ("No.",)]
    with pytest.raises(DataError, match="row 1: negative: expected text or a list of texts, given int 3"):
        as_examples([("Tea?", "Yes.", 3)])
    with pytest.raises(DataError, match="row 1: negative, text 2 of 2: the text is empty"):
        as_examples([("Tea?", "Yes.", ["No.", ""])])
