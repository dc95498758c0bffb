"""Contrastive pre-training: contexts find their next utterances, and the backbone is like any other."""

import itertools
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from polyencoders import BiEncoder, PolyEncoder
from polyencoders.data import Example
from polyencoders.errors import TrainingError
from polyencoders.training import TrainingOptions, pretrain_contrastive
from polyencoders.training.contrastive import next_utterances

WORDS = ["tea", "milk", "bread", "rain", "snow", "music", "chess", "trains"]
TALKS = [[f"do you like {word}?", f"no, {other} is better", "why?"] for word in WORDS for other in WORDS[::3]]
TURNS = st.lists(st.sampled_from(["Tea?", "tea?", "Milk.", "Yes.", "No."]), min_size=2, max_size=6)


def options(**given):
    return TrainingOptions(**{"steps": 6, "batch_size": 8, "evaluate_every": 2, "validation_queries": 8, **given})


@given(st.lists(TURNS, max_size=5), st.integers(1, 4), st.integers(0, 3))
def test_every_turn_but_the_first_is_right_once_and_no_wrong_one_has_its_words(talks, turns, seed):
    examples = next_utterances(talks, turns, True, seed)
    assert [example.positives[0] for example in examples] == [turn for talk in talks for turn in talk[1:]]
    assert examples == next_utterances(talks, turns, True, seed)
    without = [Example(example.query, example.positives) for example in examples]
    assert next_utterances(talks, turns) == without
    places = [(talk, i) for talk in talks for i in range(1, len(talk))]
    for example, (talk, i) in zip(examples, places, strict=True):
        assert example.query == tuple(talk[max(0, i - turns) : i])
        assert {wrong.lower() for wrong in example.negatives} <= {turn.lower() for turn in talk} - {talk[i].lower()}
        assert talk[i - 1].lower() == talk[i].lower() or talk[i - 1] in example.negatives, "the echo is wrong"


def test_contexts_find_their_next_utterances_and_the_backbone_is_like_any_other(backbone, tmp_path):
    # The reply to a question is never the question: an echo is what the backbone finds as it comes.
    talks = [[f"do you like {word}?", f"I sold all my {other}"] for word, other in itertools.pairwise(WORDS)]
    chosen = options(steps=30, evaluate_every=10, learning_rate=1e-4)
    result = pretrain_contrastive(
        talks, talks, tmp_path / "backbone", backbone, chosen, max_length=24, hard_negatives=True
    )
    assert result.after > result.before
    record = json.loads((tmp_path / "backbone" / "pretraining.json").read_text())
    assert record["objective"] == "contrastive"
    assert record["after"] == result.after
    assert not (tmp_path / "backbone" / "checkpoints").exists()

    start, end = (SentenceTransformer(str(path), device="cpu") for path in (backbone, tmp_path / "backbone"))
    assert [type(module).__name__ for module in end] == [type(module).__name__ for module in start]
    assert end.similarity_fn_name == start.similarity_fn_name == "cosine"
    context, said = "do you like rain?", ["do you like rain?", "I sold all my snow"]
    before, after = (model.similarity(model.encode(context), model.encode(said))[0] for model in (start, end))
    assert after[1] - after[0] > before[1] - before[0]
    weights = end[0].model.state_dict()
    for architecture in (BiEncoder, PolyEncoder):
        model = architecture(str(tmp_path / "backbone"), device="cpu")
        assert model.query_length is None
        assert model.normalize
        taken = model.route("query")[0].model.state_dict()
        assert all(torch.equal(taken[name], weights[name]) for name in weights)


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise KeyboardInterrupt


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tiny_backbone, tmp_path):
    def run(name, callbacks=(), **given):
        return pretrain_contrastive(
            TALKS, TALKS[::4], tmp_path / name, tiny_backbone, options(**given), max_length=16, callbacks=callbacks
        )

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut", [Stop()])
    assert [entry.name for entry in (tmp_path / "cut").iterdir()] == ["checkpoints"]
    with pytest.raises(TrainingError, match="interrupted run with other"):
        run("cut", seed=1)
    assert run("cut").history == whole.history
    these, those = (SentenceTransformer(str(tmp_path / name), device="cpu").state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(these[name], those[name]) for name in these)


def test_one_reply_alone_is_nothing_to_learn_from(tiny_backbone, tmp_path):
    with pytest.raises(TrainingError, match="two different replies at least"):
        pretrain_contrastive([["a", "b"], ["c", "b"]], [["a", "b"]], tmp_path / "out", tiny_backbone)
