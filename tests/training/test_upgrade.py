"""An upgrade that helps is told to the index; one that does not leaves every byte of it as it was."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import set_seed

from polyencoders import BiEncoder
from polyencoders.data import Example
from polyencoders.encoders.passages import best_passages, passages_of
from polyencoders.errors import ModelError, TrainingError
from polyencoders.index import Index, Maker, verify
from polyencoders.models import with_new_query_side
from polyencoders.training import TrainingOptions
from polyencoders.training.drawn_queries import drawn_queries, queries_of
from polyencoders.training.evaluators import RetrievalEvaluator
from polyencoders.training.teacher import Teacher
from polyencoders.training.unlabelled import read_best, upgrade_without_labels
from polyencoders.training.upgrade import missing_vectors, parts, upgrade

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath"]
TEXTS = [f"{first} {second}" for first in WORDS for second in WORDS]
OPTIONS = TrainingOptions(
    steps=60, batch_size=32, learning_rate=2e-2, freeze="backbone", evaluate_every=30, patience=None, bf16=False
)
PAIRS = [Example(f"{before} {text}", text) for text in TEXTS for before in ("hello", "please")]
HELD_OUT = [Example(f"now {text}", text) for text in TEXTS]
SHUFFLED = [Example(pair.query, TEXTS[(i * 37 + 11) % 64]) for i, pair in enumerate(PAIRS)]


@pytest.fixture(scope="module")
def made(tiny_backbone, tmp_path_factory):
    """A folder with an index and the model that made it: queries are turned by a map, which training can undo."""
    set_seed(0)
    model = BiEncoder(tiny_backbone, device="cpu", normalize=True, query_map=True)
    generator = torch.Generator().manual_seed(0)
    turned, _ = torch.linalg.qr(torch.randn(16, 16, generator=generator))
    with torch.no_grad():
        model.route("query")[2].linear.weight.copy_(turned)
    folder = tmp_path_factory.mktemp("made")
    model.save_pretrained(str(folder / "bi"))
    index = Index.create(folder / "answers", folder / "bi")
    index.add([{"id": i, "text": text} for i, text in enumerate(TEXTS)], bf16=False)
    return folder


def test_no_query_chooses_and_is_trained_on():
    """Nor where there are more than are needed to choose by, with several right answers each."""
    pairs = [Example(f"query {i}", f"answer {i} {j}") for i in range(3000) for j in range(3)]
    train, choose, decide = (parts(pairs, None, seed=0)[i] for i in range(3))
    asked = [{example.query for example in part} for part in (train, choose, decide)]
    assert len(train) + len(choose) == 3 * (len(asked[0]) + len(asked[1])), "each with all of its right answers"
    assert [len(some) for some in asked[1:]] == [500, 500]
    assert sum(map(len, asked)) == len(set().union(*asked)), "no query is in two"


@pytest.fixture
def saved(made):
    """Where the model is saved that made the index."""
    return made / "bi"


@pytest.fixture
def index(made, tmp_path):
    """A copy of the index."""
    shutil.copytree(made / "answers", tmp_path / "answers")
    return Index.open(tmp_path / "answers")


def contents(folder):
    """A checksum of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def vectors_of(index):
    stored = index.stored(TEXTS)
    return np.stack([stored[text] for text in TEXTS])


def test_confirmed_and_used_by_itself(index, tmp_path):
    vectors = vectors_of(index)
    done = upgrade(index, PAIRS, HELD_OUT, options=OPTIONS)
    assert done.confirmed
    assert done.queries == 64
    assert done.difference["MRR@100"].low > 0
    assert done.after["MRR@100"].mean == pytest.approx(done.before["MRR@100"].mean + done.difference["MRR@100"].mean)

    again = Index.open(tmp_path / "answers")
    assert np.array_equal(vectors_of(again), vectors)
    assert len(again) == 64
    assert verify(again.path) == []
    assert again.maker.name == str(done.output_dir)
    new = again.loaded_model()
    # The measure, from the outside: every document scored by the new model's own similarity.
    queries = [" ".join(example.query) for example in HELD_OUT]
    scores = new.similarity(new.encode_query(queries), torch.from_numpy(vectors)).double().numpy()
    first = np.array([(row >= row[i]).sum() for i, row in enumerate(scores)])
    assert done.after["R@1"].mean == pytest.approx((first == 1).mean(), abs=0.04)
    assert done.after["MRR@100"].mean == pytest.approx((1 / first).mean(), abs=0.02)
    found = again.search(queries, k=1)
    assert [answer[0].text for answer in found] == [TEXTS[i] for i in scores.argmax(1)]
    assert again.add([{"id": "new", "text": "amber and more"}]).added == 1
    assert again.add([{"id": 0, "text": TEXTS[0]}]).unchanged == 1


def test_upgraded_twice_and_searched_with_the_old_model_on_request(index, saved, tmp_path):
    first = upgrade(index, PAIRS, HELD_OUT, options=TrainingOptions(**{**vars(OPTIONS), "steps": 30}))
    assert first.confirmed
    more = TrainingOptions(**{**vars(OPTIONS), "steps": 60, "evaluate_every": 30})
    second = upgrade(Index.open(index.path), PAIRS, HELD_OUT, tmp_path / "second", options=more)
    assert second.confirmed
    assert second.before["MRR@100"].mean == pytest.approx(first.after["MRR@100"].mean, abs=0.02)
    assert Index.open(index.path).maker.name == str(tmp_path / "second")
    with pytest.raises(ModelError, match="accept_documents_from"):
        Index.open(index.path, saved)
    old = Index.open(index.path, saved, accept_documents_from=tmp_path / "second")
    assert old.loaded_model().__class__.__name__ == "BiEncoder"


def test_refused_on_shuffled_labels(index, tmp_path):
    before = contents(tmp_path)
    done = upgrade(index, SHUFFLED, HELD_OUT, options=OPTIONS)
    assert not done.confirmed
    assert done.difference["MRR@100"].low <= 0
    assert done.output_dir is None
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("cache") for name in after.keys() - before.keys())


def test_answers_that_are_not_in_the_index_are_ranked_as_if_they_were(index):
    model = index.loaded_model()
    outside = [Example(f"now {text}", f"{text} and more") for text in TEXTS[:10]]
    texts = [example.positives[0] for example in outside]
    made = dict(zip(texts, model.encode_document(texts), strict=True))
    values = RetrievalEvaluator(index, outside, made).values(model)
    queries = model.encode_query([" ".join(example.query) for example in outside], convert_to_tensor=True)
    among = model.similarity(queries, torch.from_numpy(vectors_of(index)))
    own = model.similarity(queries, torch.from_numpy(np.stack(list(made.values())))).diagonal()
    ranks = 1 + (among >= own[:, None]).sum(1)
    assert values["MRR@100"] == pytest.approx((1 / ranks).numpy())
    assert values["R@10"].tolist() == (ranks <= 10).float().tolist()


def test_an_index_of_passages_ranks_documents(tiny_backbone, tmp_path):
    """As if each document were scored by its best passage, one by one; also one that is not in the index."""
    model = BiEncoder(tiny_backbone, device="cpu", normalize=True, document_length=6)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.permutation(WORDS)[: 3 + i % 6]) + " " + " ".join(rng.permutation(WORDS)) for i in range(40)]
    index = Index.create(tmp_path / "passages", model)
    index.add([{"id": i, "text": text} for i, text in enumerate(texts[:30])], passages=True)
    assert len(index) > 60
    asked = [Example(text[:20], text) for text in texts]
    values = RetrievalEvaluator(index, asked, missing_vectors(index, model, asked)).values(model)
    of_each = model.score_lists([one.query[0] for one in asked], [list(chain(*passages_of(model, texts)))] * len(texts))
    ranks = []
    for i, scores in enumerate(of_each):
        best = best_passages(scores, passages_of(model, texts))
        ranks.append(1 + np.count_nonzero(np.delete(best[:30], i if i < 30 else []) >= best[i] - 1e-6))
    assert values["MRR@100"] == pytest.approx([1 / rank for rank in ranks])


def test_a_right_answer_under_two_ids_and_ties_count_as_everywhere(index):
    index.add([{"id": "twin", "text": TEXTS[0]}])
    model = index.loaded_model()
    vector = vectors_of(index)[0]
    # Another text with the very vector of the right answer: the tie goes against the model.
    outside = {"a stranger": vector}
    queries = [Example(TEXTS[0], TEXTS[0]), Example(TEXTS[1], "a stranger")]
    values = RetrievalEvaluator(index, queries, outside).values(model)
    codes = model.encode_query([TEXTS[0], TEXTS[1]], convert_to_tensor=True)
    scores = model.similarity(codes, torch.from_numpy(vectors_of(index))).numpy()
    expected = [1 + (scores[0][1:] >= scores[0][0]).sum(), 1 + (scores[1] >= scores[1][0]).sum() + 1]
    assert values["MRR@100"] == pytest.approx([1 / rank for rank in expected])


@pytest.mark.parametrize(
    "settings",
    [
        ("bi", {"normalize": True}),
        ("bi", {"reduction": "attention"}),
        ("bi", {"reduction": "attention", "position_bias": False}),
        ("bi", {"query_map": True, "document_map": True, "shared_tower": False, "query_length": 20}),
        ("bi", {"reduction": "first"}),
        ("poly", {"m": 2}),
        ("poly", {"codes": "last-and-first", "document_map": True}),
    ],
)
def test_the_same_documents_and_a_start_where_the_model_stands(settings, build):
    architecture, arguments = settings
    model = build(architecture, **arguments)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "linear" in name and "Transformer" not in name:
                weights.add_(torch.randn_like(weights) * 0.1)
    new = with_new_query_side(model)
    assert Maker.of(new).documents == Maker.of(model).documents
    texts, queries = TEXTS[:9], ["amber", ["hello", "birch and cedar"]]
    assert np.array_equal(new.encode_document(texts), model.encode_document(texts))
    before = model.similarity(model.encode_query(queries), model.encode_document(texts))
    after = new.similarity(new.encode_query(queries), new.encode_document(texts))
    # New codes are small, not zero: all outputs are attended to nearly alike.
    assert torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1] > 0.98
    if architecture == "poly" or arguments.get("reduction") == "first":
        assert torch.allclose(before, after, rtol=1e-4, atol=1e-4)
    assert not {id(weights) for weights in new.parameters()} & {id(weights) for weights in model.parameters()}


@pytest.mark.parametrize("reduction", ["mean", "attention"])
def test_maps_that_follow_each_other_are_all_kept(reduction, build):
    model = build("bi", reduction=reduction, query_map=True, document_map=True, normalize=False)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith("linear.weight"):
                weights.add_(torch.randn_like(weights))
    model.fold_document_map()
    new = with_new_query_side(model)
    # One way over the same outputs: the codes as they are, or, of new ones, an attention to all outputs alike.
    if reduction == "mean":
        new.query_codes.codes.data.zero_()
    torch.testing.assert_close(new.encode_query(TEXTS[:5]), model.encode_query(TEXTS[:5]), rtol=1e-4, atol=1e-4)


def test_the_copy_has_a_card_of_its_own(saved, tmp_path):
    with_new_query_side(BiEncoder(saved)).save_pretrained(str(tmp_path / "new"))
    assert "| Query vector | attention, average of 4 codes" in (tmp_path / "new" / "README.md").read_text()


def test_of_several_trainings_validation_chooses(index):
    held = replace(OPTIONS, learning_rate=1e-6, code_learning_rate=1e-6, steps=4, evaluate_every=4)
    alone = upgrade(index, PAIRS, HELD_OUT, options=held)
    assert not alone.confirmed
    done = upgrade(index, PAIRS, HELD_OUT, options=[held, OPTIONS, held])
    assert done.confirmed
    assert done.training.after > alone.training.after


@pytest.mark.parametrize("architecture", ["bi", "poly"])
def test_a_tower_of_its_own_is_trained_and_the_documents_stay(architecture, build, tmp_path):
    model = build(architecture)
    model.save_pretrained(str(tmp_path / "model"))
    index = Index.create(tmp_path / "own", tmp_path / "model")
    index.add([{"id": i, "text": text} for i, text in enumerate(TEXTS)], bf16=False)
    vectors = vectors_of(index)
    options = replace(OPTIONS, freeze="all-but-top-1", learning_rate=3e-3, steps=60, evaluate_every=30)
    done = upgrade(index, PAIRS, HELD_OUT, options=options)
    new = done.model
    assert not new.shared_tower
    before, after = model.route("query")[0].state_dict(), new.route("query")[0].state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("layer.0." not in name and "embeddings" not in name for name in changed)
    assert np.allclose(new.encode_document(TEXTS), vectors, atol=1e-6)
    assert done.confirmed
    again = Index.open(index.path).loaded_model()
    assert np.allclose(again.encode_query(["now amber birch"]), new.encode_query(["now amber birch"]), atol=1e-6)


def test_what_cannot_be_upgraded(index, build, tmp_path):
    with pytest.raises(TrainingError, match="5 held-out queries can confirm nothing: at least 20"):
        upgrade(index, PAIRS[:25], options=OPTIONS)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(TrainingError, match="there is there already"):
        upgrade(index, PAIRS, output_dir=tmp_path / "there")
    with pytest.raises(TrainingError, match="is empty"):
        upgrade(Index.create(tmp_path / "none", build("bi")), PAIRS)
    adopted = Index.from_vectors(tmp_path / "adopted", np.eye(16, dtype=np.float32))
    with pytest.raises(ModelError, match="does not know which model made its vectors"):
        upgrade(adopted, PAIRS)
    with pytest.raises(ModelError, match="was made of vectors alone"):
        adopted.set_query_model(build("bi"))
    with pytest.raises(ModelError, match="the document sides differ"):
        index.set_query_model(build("bi", normalize=True, document_length=20))


LOG = [f"{before} {text}" for text in TEXTS for before in ("hello", "please", "now")]


@pytest.fixture
def teacher(tiny_backbone):
    """The model that made the index, before its queries were turned."""
    return BiEncoder(tiny_backbone, device="cpu", normalize=True)


def test_a_teacher_in_place_of_labels(index, saved, teacher):
    vectors = vectors_of(index)
    done = upgrade_without_labels(index, teacher, [*LOG, *LOG], options=OPTIONS)
    assert done.confirmed
    assert done.judged_by == "BiEncoder"
    assert done.queries == round(0.2 * len(LOG))
    assert done.difference["MRR@100"].low > 0
    again = Index.open(index.path)
    assert np.array_equal(vectors_of(again), vectors)
    assert again.maker.name == str(done.output_dir)
    # Of queries that neither has seen, the teacher finds the new model's first hit better.
    asked = [f"thanks {text}" for text in TEXTS]
    right = teacher.encode_query(asked) @ vectors.T
    first = [(one.encode_query(asked) @ vectors.T).argmax(1) for one in (BiEncoder(saved), done.model)]
    before, after = (right[np.arange(64), places].mean() for places in first)
    assert after > before + 0.1


def test_held_out_queries_are_judged_among_what_both_models_find(index, saved, teacher, monkeypatch):
    judged = []
    monkeypatch.setattr(
        "polyencoders.training.unlabelled.RetrievalEvaluator",
        lambda *given: judged.append(given[1]) or RetrievalEvaluator(*given),
    )
    done = upgrade_without_labels(index, teacher, LOG, most_queries=150, options=OPTIONS)
    vectors, queries = vectors_of(index), [example.query[0] for example in judged[-1]]
    assert len(queries) == done.queries == 30
    found = [np.argsort(-(one.encode_query(queries) @ vectors.T))[:, :10] for one in (BiEncoder(saved), done.model)]
    right = teacher.encode_query(queries) @ vectors.T
    for row, example in enumerate(judged[-1]):
        pool = np.union1d(found[0][row], found[1][row])
        best = TEXTS.index(example.positives[0])
        assert set(example.negatives) == {TEXTS[place] for place in pool if place != best}
        assert right[row, best] >= right[row, pool].max() - 1e-5


def test_a_model_that_learns_nothing_from_the_teacher_is_refused(index, teacher, tmp_path):
    before = contents(index.path)
    still = replace(OPTIONS, learning_rate=1e-7, code_learning_rate=1e-7, steps=2, evaluate_every=2)
    done = upgrade_without_labels(index, teacher, LOG, options=still)
    assert not done.confirmed
    assert done.output_dir is None
    assert contents(index.path) == before


def test_without_a_log_queries_are_drawn_from_the_documents(index, teacher):
    index.add(
        [{"id": f"more {i}", "text": f"Where is {text}? It is there. How is {text}?"} for i, text in enumerate(TEXTS)]
    )
    done = upgrade_without_labels(index, teacher, options=OPTIONS)
    assert done.queries == round(0.2 * 128)
    with pytest.raises(
        TrainingError, match="10 held-out queries can confirm nothing: at least 20 are needed, 100 dist"
    ):
        upgrade_without_labels(index, teacher, LOG[:50])


def test_an_index_without_texts_gives_a_teacher_nothing_to_read(index, saved, teacher, tmp_path):
    bare = Index.from_vectors(tmp_path / "bare", vectors_of(index), model=saved)
    with pytest.raises(TrainingError, match="bare: its documents have no texts, so that a teacher has nothing to read"):
        upgrade_without_labels(bare, teacher, options=OPTIONS)
    with pytest.raises(TrainingError, match="bare: no query finds two documents with texts"):
        upgrade_without_labels(bare, teacher, LOG, options=OPTIONS)


def test_documents_without_a_text_are_passed_over(index, saved, teacher, tmp_path):
    rows = [{"id": str(i), "text": text if i % 4 else None} for i, text in enumerate(TEXTS)]
    table = pa.table({name: [row[name] for row in rows] for name in ("id", "text")})
    vectors = pa.FixedSizeListArray.from_arrays(vectors_of(index).ravel(), 16)
    pq.write_table(table.append_column("vector", vectors), tmp_path / "some.parquet")
    some = Index.from_vectors(tmp_path / "some", tmp_path / "some.parquet", model=saved)
    found, scores = read_best(some, [some.loaded_model()], [(text,) for text in TEXTS], Teacher(teacher))
    assert {text for one in found for text in (*one.positives, *one.negatives)} <= {row["text"] for row in rows}
    assert all(len(scores[one.query]) == 1 + len(one.negatives) for one in found)
    assert drawn_queries(some, 64) == []  # two words are no query


def test_what_could_be_asked_of_a_document():
    long = " ".join(["word"] * 41)
    assert list(queries_of({"text": "Opening hours of the museum\nNine to five. Is it free? No. Why?"})) == [
        "Opening hours of the museum",
        "Is it free?",
    ]
    assert list(queries_of({"text": f"{long}. Is the museum free on Sundays? Why?"})) == [
        "Is the museum free on Sundays?"
    ]
    assert list(queries_of({"title": None, "text": "Too short."})) == []


KILLED = """
import sys
sys.path[:0] = [sys.argv[1]]
from transformers import TrainerCallback
from polyencoders.index import Index
from test_upgrade import HELD_OUT, OPTIONS, PAIRS
from polyencoders.training.upgrade import missing_vectors, upgrade

class Say(TrainerCallback):
    def on_step_end(self, *args, **kwargs):
        print("step", flush=True)

upgrade(Index.open(sys.argv[2]), PAIRS, HELD_OUT, options=OPTIONS, callbacks=[Say()])
"""


def test_kill_9_leaves_the_index_as_it_was(index, tmp_path):
    before = contents(index.path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", KILLED, Path(__file__).parent, index.path]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "step" in process.stdout.readline()
    time.sleep(0.2)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert contents(index.path) == before
    assert Index.open(index.path).maker == index.maker
