"""Readers give the published counts on whole sets. A test is skipped where the archive of its set is missing.

The archives are in the folder that POLYENCODERS_BENCHMARK_DATA names, or in ``shared/data`` beside the clone.
"""

import json
import os
import tarfile
import zipfile
from collections import Counter
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from polyencoders.data import (
    load_examples,
    read_babi,
    read_beir,
    read_dailydialogpp,
    read_mutual,
    read_scifact,
    read_self_dialogue,
    read_ubuntu_irc,
    read_wikiqa,
)
from polyencoders.data.ubuntu import _links
from polyencoders.evaluation import given_candidates, given_corpus, shared_candidates

ARCHIVES = Path(os.environ.get("POLYENCODERS_BENCHMARK_DATA") or Path(__file__).parents[3] / "shared" / "data")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Unpacks an archive, once, into a folder of its own."""
    folders = {}

    def unpack(name):
        archive = ARCHIVES / f"{name}.tar.gz"
        if not archive.exists():
            pytest.skip(f"the data set is not on this machine: no {archive}")
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            with tarfile.open(archive) as packed:
                # Python 3.11.0 to 3.11.3 know no filters.
                packed.extractall(folders[name], **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        return folders[name]

    return unpack


def sizes(splits):
    return [len(split) for split in (splits.train, splits.validation, splits.test)]


@pytest.mark.parametrize("version", ["mutual", "mutual_plus"])
def test_mutual(unpacked, version):
    folder = unpacked("mutual") / "mutual" / "data" / version
    train = read_mutual(folder / "train")
    splits = load_examples(f"mutual:{folder}")
    assert len(train) == 7088
    assert len(splits.test) == 886
    assert len(splits.train) + len(splits.validation) == 7088
    assert 0.09 < len(splits.validation) / 7088 < 0.11
    task = given_candidates(splits.test)
    # Two questions of MuTual have an option twice, which is ranked once.
    assert Counter(map(len, task.documents)) == ({4: 884, 3: 2} if version == "mutual" else {4: 886})
    places = Counter(position for (position,) in task.relevant)
    assert min(places.values()) > 180, "the right answer may be anywhere"
    for number in (1, 86, 886):
        record = json.loads((folder / "dev" / f"dev_{number}.txt").read_text())
        example = splits.test[number - 1]
        assert " ".join(example.query).split() == record["article"].split(), "no word of it is lost"
        assert example.candidates == tuple(record["options"])
        assert example.positives == (record["options"]["ABCD".index(record["answers"])],)


def test_dailydialogpp(unpacked):
    folder = unpacked("dailydialogpp") / "dailydialogpp" / "dataset"
    hard, easy = load_examples(f"dailydialog++:{folder}"), load_examples(f"dailydialog++-random:{folder}")
    assert sizes(hard) == sizes(easy) == [7641, 1028, 1142]
    records = [json.loads(line) for line in (folder / "test.json").read_text().splitlines()]
    for splits, kind in ((hard, "adversarial"), (easy, "random")):
        for example, record in zip(splits.test, records, strict=True):
            assert example.query == tuple(record["context"])
            assert set(example.positives) == set(record["positive_responses"])
            assert set(example.negatives) == set(record[f"{kind}_negative_responses"]) - set(example.positives)
            assert sum(text in example.positives for text in example.candidates) == 1
    listed = {example.positives.index(example.candidates[0]) for example in hard.test}
    assert listed == {0, 1, 2, 3, 4}
    assert all(len(example.positives) <= 5 for example in read_dailydialogpp(folder / "data_positives.json"))


def test_babi(unpacked):
    folder = unpacked("dstc2_babi6") / "dstc2_babi6"
    splits = load_examples(f"babi:{folder}")
    assert sizes(splits) == [14404, 4159, 11237]
    assert len(splits.corpus) == 2407
    dialogues = []
    for split, name in ((splits.train, "trn"), (splits.validation, "dev"), (splits.test, "tst")):
        assert split == read_babi(folder / f"dialog-babi-task6-dstc2-{name}.txt")
        dialogues.append(sum(example.query == ("<SILENCE>",) for example in split))
        given_corpus(split, splits.corpus)  # refuses an answer that is not in the list
    assert dialogues == [1618, 500, 1117]
    task = shared_candidates(splits.test, splits.corpus)
    assert task.candidates == 2407
    assert len({id(documents) for documents in task.documents}) == 1, "the list is held once"


def test_ubuntu_irc(unpacked):
    folder = unpacked("ubuntu_irc_disentangle") / "ubuntu_irc_disentangle" / "data"
    lines = {}
    for split in ("train", "dev", "test"):
        files = sorted((folder / split).glob("*.annotation.txt"))
        lines[split] = sum(len(file.read_text().splitlines()) for file in files)
        links = 0
        for file in files:
            pairs = {tuple(sorted(map(int, line.split()[:2]))) for line in file.read_text().splitlines()}
            expected = {pair for pair in pairs if pair[0] != pair[1]}
            assert set(_links(file, 10**6)) == expected
            links += len(expected)
        examples = read_ubuntu_irc(folder / split)
        assert 0.95 * links < len(examples) <= links, "few answers are the server's, or empty"
    assert lines == {"train": 69395, "dev": 2607, "test": 5187}
    splits = load_examples(f"ubuntu-irc:{folder}")
    assert len(splits.test) == len(examples)
    # A link of the README of the set: bob2 asks lukus001 nothing by name any more.
    assert not any(example.positives[0].startswith(("bob2:", "lukus001:")) for example in splits.validation)


def test_scifact(unpacked, tmp_path):
    folder = unpacked("scifact") / "scifact" / "data"
    with zipfile.ZipFile(folder / "scifact.zip") as packed:
        packed.extractall(tmp_path / "csv")
    found = read_scifact(tmp_path / "csv")
    assert len(found.corpus) == 5183
    assert {split: len(qrels) for split, qrels in found.qrels.items()} == {"train": 809, "test": 300}
    assert {split: sum(map(len, qrels.values())) for split, qrels in found.qrels.items()} == {"train": 919, "test": 339}
    splits = load_examples(f"scifact:{tmp_path / 'csv'}")
    assert sizes(splits) == [728, 81, 300]
    assert len(splits.corpus) == 5183
    assert not any("\\" in text and "\\x" in text for text in splits.corpus), "what numpy escaped is text again"

    # The same set in BEIR's layout is the same set; only there may a query have the id of its own document.
    beir = tmp_path / "beir"
    (beir / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", found.corpus), ("queries", found.queries)):
        rows = [json.dumps({"_id": key, "title": "", "text": text}) for key, text in texts.items()]
        (beir / f"{name}.jsonl").write_text("\n".join(rows))
    for split, qrels in found.qrels.items():
        rows = [f"{query}\t{key}\t{value}" for query, judged in qrels.items() for key, value in judged.items()]
        (beir / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    assert read_beir(beir) == replace(found, leave_out_own=True)
    assert load_examples(f"beir:{beir}") == splits


def test_wikiqa(unpacked):
    folder = next(unpacked("wikiqa").rglob("a.toks")).parents[1]
    pairs, questions, listed = [], [], []
    for split in ("train", "dev", "test"):
        columns = [(folder / split / name).read_text().split("\n")[:-1] for name in ("id.txt", "b.toks", "sim.txt")]
        pairs.append(len(columns[0]))
        groups = [list(rows) for _, rows in groupby(zip(*columns, strict=True), key=lambda row: row[0])]
        answered = [rows for rows in groups if any(label == "1" for _, _, label in rows)]
        questions.append(len(answered))
        for example, rows in zip(read_wikiqa(folder / split), answered, strict=True):
            assert set(example.candidates) == {sentence.strip() for _, sentence, _ in rows}
            assert set(example.positives) == {sentence.strip() for _, sentence, label in rows if label == "1"}
        listed.append(sum(len(example.candidates) for example in read_wikiqa(folder / split)))
    assert pairs == [8672, 1130, 2351]
    assert sizes(load_examples(f"wikiqa:{folder}")) == questions == [873, 126, 243]
    assert all(0.99 * count < found <= count for count, found in zip(pairs, listed, strict=True)), "few are given twice"


def test_banking77(unpacked):
    folder = unpacked("banking77") / "banking77" / "banking_data"
    splits = load_examples(f"labelled:{folder}")
    assert len(splits.train) + len(splits.validation) == 10003
    assert len(splits.test) == 3080
    names = json.loads((folder / "categories.json").read_text())
    assert sorted(splits.corpus) == sorted(name.replace("_", " ") for name in names)
    assert len(splits.corpus) == 77


def test_clinc150(unpacked):
    path = unpacked("clinc150") / "clinc150" / "data" / "data_full.json"
    splits = load_examples(f"clinc150:{path}")
    assert sizes(splits) == [15000, 3000, 4500]
    assert len(splits.corpus) == 150
    assert "oos" not in splits.corpus


def test_self_dialogue(unpacked):
    conversations = read_self_dialogue(unpacked("self_dialogue") / "self_dialogue" / "corpus")
    assert len(conversations) == 24249
    assert all(turn == " ".join(turn.split()) != "" for conversation in conversations for turn in conversation)
    assert {len(conversation) for conversation in conversations} <= set(range(21)), "ten or twenty turns were asked for"
    assert sum(len(conversation) < 2 for conversation in conversations) < 50
