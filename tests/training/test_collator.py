"""Columns know their side, in our loss and in those of sentence-transformers."""

import math

import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss

from polyencoders.data import Example, training_dataset
from polyencoders.training import Distillation, DistillationLoss, DualEncoderTrainer, InBatchCrossEntropy
from polyencoders.training.collator import DualEncoderCollator, text_id


@pytest.fixture
def trainer(tmp_path):
    def trainer(model, table, loss=None, **arguments):
        arguments = {"max_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "no", **arguments}
        args = SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path), report_to="none", disable_tqdm=True, use_cpu=True, **arguments
        )
        return DualEncoderTrainer(model=model, args=args, train_dataset=table, loss=loss)

    return trainer


def test_the_first_column_is_the_query_whatever_it_is_called(build):
    collate = DualEncoderCollator(preprocess_fn=build("poly").preprocess)
    batch = collate([{"answer": ["Hi!", "Who?"], "question": "Me.", "other": "You."}])
    assert {key: value for key, value in batch.items() if key.endswith("_task")} == {
        "answer_task": "query",
        "question_task": "document",
        "other_task": "document",
    }


def test_text_ids_are_equal_exactly_where_texts_are(build):
    rows = [
        {"query": ["tea"], "positive": "tea"},
        {"query": ["tea", "?"], "positive": "tea ?"},
        {"query": ["tea", "?"], "positive": "tea"},
    ]
    batch = DualEncoderCollator(preprocess_fn=build("poly").preprocess)(rows)
    queries, documents = batch["query_text_id"].tolist(), batch["positive_text_id"].tolist()
    assert queries[0] != queries[1] == queries[2]
    assert documents[0] == documents[2] != documents[1]
    assert not set(queries) & set(documents)
    assert text_id("tea") == documents[0]


ROWS = [
    {"query": ["a"], "positive": "b", "negative_1": "", "negative_2": "", "negative_3": ""},
    {"query": ["c"], "positive": "d", "negative_1": "e", "negative_2": "f", "negative_3": "g"},
]


def test_negatives_move_up_to_empty_texts(build):
    model = build("bi")
    batch = DualEncoderCollator(preprocess_fn=model.preprocess, packs_negatives=True)(ROWS)
    assert [key for key in batch if key.endswith("_task")] == [
        f"{name}_task" for name in ("query", "positive", "negative_1", "negative_2")
    ]
    ids = [text_id(text) for text in ("e", "f", "g", "")]
    assert batch["negative_1_text_id"].tolist() + batch["negative_2_text_id"].tolist() == ids
    without = DualEncoderCollator(preprocess_fn=model.preprocess, packs_negatives=True)(ROWS[:1])
    assert [key for key in without if key.endswith("_task")] == ["query_task", "positive_task"]


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        (ROWS, {}),
        (ROWS[1:], {"packs_negatives": True}),
        ([{**row, "label": [1.0, 0.5]} for row in ROWS], {"packs_negatives": True}),
        (ROWS, {"packs_negatives": True, "prompts": {"negative_2": "say: "}}),
    ],
)
def test_columns_stay_where_they_are(build, rows, settings):
    batch = DualEncoderCollator(preprocess_fn=build("bi").preprocess, **settings)(rows)
    for column in ("positive", "negative_1", "negative_3"):
        assert batch[f"{column}_text_id"].tolist() == [text_id(row[column]) for row in rows]


@pytest.mark.parametrize("size", [None, 3])
def test_one_example_with_many_negatives_costs_the_others_nothing(build, examples, trainer, monkeypatch, size):
    """And the loss is what it is with every empty text encoded."""
    some = [*examples[:7], Example(examples[7].query, examples[7].positives, [f"Not {i}." for i in range(30)])]
    model = build("bi").eval()
    run = trainer(model, training_dataset(some), InBatchCrossEntropy(model, size), per_device_train_batch_size=8)
    batch = next(iter(run.get_train_dataloader()))
    encoded = []
    forward = type(model).forward
    monkeypatch.setattr(
        type(model),
        "forward",
        lambda self, input, **kw: encoded.append(len(input["input_ids"])) or forward(self, input, **kw),
    )
    loss = run.compute_loss(model, batch)
    assert sum(encoded) == 8 + 8 + 32
    run.data_collator.packs_negatives = False
    encoded.clear()
    whole = run.compute_loss(model, next(iter(run.get_train_dataloader())))
    assert sum(encoded) == 8 * 32
    assert loss.item() == pytest.approx(whole.item(), abs=1e-5)


def test_a_loss_by_rows_gets_rows_as_they_are(build, examples, trainer):
    model = build("bi")
    table = training_dataset(examples)
    assert trainer(model, table).data_collator.packs_negatives
    assert not trainer(model, table, DistillationLoss(model, Distillation())).data_collator.packs_negatives
    theirs = MultipleNegativesRankingLoss(model, scale=model.score_scale, similarity_fct=model.similarity)
    assert not trainer(model, table, theirs).data_collator.packs_negatives


@pytest.mark.parametrize("architecture", ["bi", "poly"])
def test_training_sends_queries_down_the_query_route(architecture, build, examples, trainer, monkeypatch):
    model = build(architecture, reduction="attention") if architecture == "bi" else build(architecture)
    codes = next(weights for name, weights in model.named_parameters() if name.endswith(".codes"))
    before = codes.detach().clone()
    tasks = []
    forward = type(model).forward
    monkeypatch.setattr(
        type(model), "forward", lambda self, input, **kw: tasks.append(input["task"]) or forward(self, input, **kw)
    )
    trainer(model, training_dataset(examples)).train()
    assert tasks == ["query", "document"] * 2
    assert not torch.equal(codes, before)


@pytest.mark.parametrize("architecture", ["bi", "poly"])
def test_a_loss_of_sentence_transformers_trains_too(architecture, build, examples, trainer):
    """On texts that are there once it is our loss, so that the same weights come out."""
    table = training_dataset(examples)
    trained = []
    for name in ("theirs", "ours"):
        model = build(architecture).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        loss = {
            "theirs": MultipleNegativesRankingLoss(model, scale=model.score_scale, similarity_fct=model.similarity),
            "ours": InBatchCrossEntropy(model),
        }[name]
        # Adam would make much of the rounding of gradients that are 0.
        trainer(model, table, loss, learning_rate=0.1, optim="sgd").train()
        trained.append(model.state_dict())
    for name, weights in trained[0].items():
        torch.testing.assert_close(weights, trained[1][name], atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("architecture", ["bi", "poly"])
def test_graded_pairs_train_by_the_models_own_score(architecture, build, trainer):
    model = build(architecture)
    queries = ["amber", "birch", "cedar", "delta"] * 4
    documents = [f"{word} {i}" for i, word in enumerate(["fjord", "grove", "heath", "ember"] * 4)]
    grades = [float(i % 7) for i in range(16)]
    graded = Dataset.from_dict({"query": queries, "document": documents, "score": grades})
    loss = CoSENTLoss(model, scale=model.score_scale, similarity_fct=model.similarity_pairwise)

    def disorder():
        """What the loss says by its definition."""
        scores = model.similarity_pairwise(model.encode_query(queries), model.encode_document(documents))
        scores = (model.score_scale * scores.double()).tolist()
        pairs = [(i, j) for i in range(16) for j in range(16) if grades[i] > grades[j]]
        return math.log1p(sum(math.exp(scores[j] - scores[i]) for i, j in pairs))

    before = disorder()
    trainer(model, graded, loss, max_steps=20, learning_rate=1e-2, per_device_train_batch_size=16).train()
    assert disorder() < before


def test_the_default_loss_is_ours(build, examples, trainer):
    assert isinstance(trainer(build("poly"), training_dataset(examples)).loss, InBatchCrossEntropy)


def test_training_reads_the_prompts_that_encoding_does(build, examples, trainer):
    model = build("bi")
    model.prompts.update({"query": "ask: ", "document": "say: "})
    collated = trainer(model, training_dataset(examples)).data_collator([{"query": ["tea?"], "positive": "Yes."}])
    texts = [model.tokenizer.decode(collated[f"{name}_input_ids"][0]) for name in ("query", "positive")]
    assert texts == ["[CLS] ask : tea? [SEP]", "[CLS] say : yes. [SEP]"]


def test_another_batch_sampler_is_the_users_choice(build, trainer):
    table = Dataset.from_dict({"query": ["a", "b", "c", "d"] * 2, "positive": ["x"] * 4 + list("stuv")})
    model = build("bi")
    batches = list(trainer(model, table, batch_sampler="no_duplicates").get_train_dataloader().batch_sampler)
    assert all(len({table[i]["positive"] for i in batch}) == len(batch) for batch in batches)
