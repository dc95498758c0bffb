"""Splits: fractions, seeds, and no query on two splits."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyencoders.data import Example, load_examples, split_examples, write_jsonl
from polyencoders.errors import DataError


def examples_of(queries):
    return [Example(f"question {query}", f"answer {i}") for i, query in enumerate(queries)]


@given(
    st.lists(st.integers(0, 30), min_size=3, max_size=100).filter(lambda queries: len(set(queries)) >= 3),
    st.floats(0.01, 0.45),
    st.floats(0.01, 0.45),
    st.integers(0, 5),
)
def test_no_query_on_two_splits_and_nothing_lost(queries, validation, test, seed):
    examples = examples_of(queries)
    splits = split_examples(examples, validation, test, seed)
    parts = [splits.train, splits.validation, splits.test]
    assert all(parts)
    assert sorted(chain(*parts), key=lambda example: example.positives) == sorted(
        examples, key=lambda example: example.positives
    )
    texts = [{example.query for example in part} for part in parts]
    assert sum(map(len, texts)) == len(set.union(*texts))
    assert split_examples(examples, validation, test, seed) == splits


def test_fractions_and_seeds():
    examples = examples_of(range(1000))
    splits = split_examples(examples, validation=0.1, test=0.2)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [700, 100, 200]
    assert splits != split_examples(examples, validation=0.1, test=0.2, seed=1)
    assert splits.train == sorted(splits.train, key=examples.index), "in the file's order"
    assert split_examples(examples, validation=0).train == examples


def test_queries_that_differ_by_case_and_space_stay_together():
    pairs = [Example(text.format(i), "yes") for i in range(50) for text in ("Is it {}?", "is  it {}? ")]
    splits = split_examples(pairs, validation=0.3)
    assert len(splits.validation) == 30
    assert not {e.query[0].split()[-1] for e in splits.train} & {e.query[0].split()[-1] for e in splits.validation}


@pytest.mark.parametrize(("validation", "test"), [(1.0, 0.0), (0.5, 0.5), (-0.1, 0.0), (0.0, -0.1)])
def test_refuses_fractions(validation, test):
    with pytest.raises(DataError, match=f"validation={validation:g} and test={test:g}: expected fractions"):
        split_examples(examples_of(range(9)), validation, test)


def test_refuses_too_few(tmp_path):
    with pytest.raises(DataError, match="too few examples to split into 3 parts: 2 distinct queries"):
        split_examples(examples_of([1, 2, 2, 2]), 0.1, 0.1)
    write_jsonl(examples_of([1, 2]), tmp_path / "mine.jsonl")
    with pytest.raises(DataError, match=r"mine\.jsonl: too few examples"):
        load_examples(tmp_path / "mine.jsonl")


def test_load_examples(tmp_path):
    path = tmp_path / "mine.jsonl"
    write_jsonl(examples_of(range(10)), path)
    assert repr(load_examples(path)) == "Splits(train=8, validation=1, test=1)"
    assert load_examples(path, seed=3) != load_examples(str(path))
    with pytest.raises(DataError, match=r"chitchit: neither a file nor a built-in data set \(chitchat\), did you mean"):
        load_examples("chitchit")
    with pytest.raises(DataError, match=r"mine.json: neither a file nor a built-in data set \(chitchat\)$"):
        load_examples("mine.json")
    with pytest.raises(DataError, match="a directory, expected a file"):
        load_examples(tmp_path)
