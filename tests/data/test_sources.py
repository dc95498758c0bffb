"""Data by its name: formats, errors for unknown names, and how the files of splits are found."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from polyencoders.data import Example, Splits, load_examples, read_source, write_jsonl
from polyencoders.data.formats import FORMATS
from polyencoders.data.sources import Source, read_splits, with_validation
from polyencoders.errors import DataError

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def examples(*numbers):
    return [Example(f"question {number}", f"answer {number}") for number in numbers]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "mutal:data",
            "mutal:data: no file of this name, and no format 'mutal', did you mean \"mutual\"?; expected FORMAT",
        ),
        ("xyz:data", "no format 'xyz'; expected FORMAT:PATH with one of the formats babi, beir,"),
        ("mutual", "mutual: a format; expected a path after it, mutual:PATH"),
        ("mutual:", "mutual:: expected a path after the colon, as in mutual:PATH"),
        ("C:\\data.jsonl", "neither a file nor a built-in data set"),
    ],
)
def test_names_that_are_not_known(source, message):
    with pytest.raises(DataError, match=re.escape(message)):
        load_examples(source)


def test_a_folder_wants_a_format(tmp_path):
    with pytest.raises(
        DataError, match=r"a directory, expected a file; labelled:.* reads tables in it .* FORMAT:PATH with one of"
    ):
        load_examples(tmp_path)


def test_a_file_may_be_called_like_a_format(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl(examples(*range(10)), "mutual:set.jsonl")
    assert len(read_source("mutual:set.jsonl").examples) == 10


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_is_absent_is_named(name, tmp_path):
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "absent"))):
        load_examples(f"{name}:{tmp_path / 'absent'}")


def test_every_format_is_in_the_documentation():
    named = re.findall(r"^\| `([^`:]+):", DOCS.read_text(encoding="utf-8"), re.M)
    assert sorted(named) == sorted(["FORMAT", *FORMATS])


def test_conversations_stay_whole():
    conversations = [[Example([f"hi {i}", f"and {j}"], "yes") for j in range(3)] for i in range(20)]
    splits = replace(Source.of(conversations), corpus=("yes", "no")).split(0.1, 0.1, seed=1)
    parts = [{example.query[0] for example in split} for split in (splits.train, splits.validation, splits.test)]
    assert [len(split) for split in parts] == [16, 2, 2]
    assert len(set().union(*parts)) == 20
    assert splits.corpus == ("yes", "no")
    with pytest.raises(DataError, match="too few examples to split into 3 parts: 2 conversations"):
        Source.of(conversations[:2]).split()


def test_missing_splits():
    train = Source(examples(*range(20)))
    here = Path("set")
    complete = with_validation(here, train, examples(30), examples(40), 0)
    assert complete.splits == Splits(train.examples, examples(30), examples(40))
    assert [complete.examples_of(split) for split in ("validation", "test")] == [examples(30), examples(40)]
    for sides in ((None, examples(40)), (examples(40), None)):
        found = with_validation(here, train, *sides, 0)
        assert found.examples_of("test") == examples(40), "what is reported on is never what was chosen by"
        assert (
            sorted(found.examples_of("train") + found.examples_of("validation"), key=train.examples.index)
            == train.examples
        )
        assert len(found.examples_of("validation")) == 2
    with pytest.raises(DataError, match="set: too few examples to split into 2 parts: 1 distinct queries"):
        with_validation(here, Source(examples(1)), None, examples(40), 0)


def test_files_of_splits(tmp_path):
    names = {"train": ["a.txt", "train*"], "validation": ["valid*"], "test": ["test*"]}

    def read(path):
        return Source(examples(*path.read_text().split()))

    with pytest.raises(DataError, match=r"no training data, expected a file such as a\.txt or train\*"):
        read_splits(tmp_path, names, read)
    (tmp_path / "train1").write_text("1 2 3")
    with pytest.raises(DataError, match=r"no validation or test data, expected a file such as valid\* or test\*"):
        read_splits(tmp_path, names, read)
    (tmp_path / "valid").write_text("4")
    assert read_splits(tmp_path, names, read).examples_of("test") == examples(4)
    (tmp_path / "train2").write_text("4")
    with pytest.raises(DataError, match=r"2 files match train\*, expected one: train1, train2"):
        read_splits(tmp_path, names, read)
    (tmp_path / "a.txt").write_text("1")
    with pytest.raises(DataError, match=r"a\.txt: too few examples"):
        read_splits(tmp_path, names, read)
