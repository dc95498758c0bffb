"""A listwise head's lists and its training: what lists hold, what only lists can tell, and heads that are refused."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from polyencoders import ListwiseReranker
from polyencoders.data import Example
from polyencoders.errors import TrainingError
from polyencoders.evaluation import evaluate, whole_corpus
from polyencoders.models.listwise_head import ListwiseHead
from polyencoders.training import ListwiseOptions, Teacher, train_listwise
from polyencoders.training.listwise_lists import draw_lists

QUICK = {"batch_size": 16, "width": 32, "dropout": 0.0, "learning_rate": 1e-2, "documents": 8}


def odd_lists(number, generator):
    """Lists of five documents, four of them alike and one, at a random place, that is not: it is right."""
    many, one = torch.randn(2, number, 8, generator=generator)
    right = torch.randint(5, (number,), generator=generator)
    documents = many[:, None].repeat(1, 5, 1)
    documents[torch.arange(number), right] = one
    documents += 0.1 * torch.randn(documents.shape, generator=generator)
    return torch.randn(number, 2, 8, generator=generator), documents, right


def test_a_head_learns_what_no_score_of_single_documents_can_tell():
    """Which document is right depends on the others alone: read one by one, all five are alike."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    head = ListwiseHead(8, width=32, dropout=0.0)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(200):
        codes, documents, right = odd_lists(64, generator)
        loss = functional.cross_entropy(head(codes, documents), right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    codes, documents, right = odd_lists(500, generator)
    head.eval()
    with torch.inference_mode():
        together = head(codes, documents).argmax(1)
        alone = torch.cat([head(codes, documents[:, [place]]) for place in range(5)], dim=1).argmax(1)
    assert (together == right).float().mean() > 0.9
    assert (alone == right).float().mean() < 0.6  # a score likes the one better than the four, or not: a half


@pytest.fixture
def space():
    """Codes `(200, 2, 6)`, documents `(300, 6)`, and right answers near their queries, some with two."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 6)).astype(np.float32)
    codes = (vectors[:200, None] + 0.7 * rng.normal(size=(200, 2, 6))).astype(np.float32)
    return codes, vectors, [[number, 299 - number] if number % 3 == 0 else [number] for number in range(200)]


def naive_scores(codes, vectors, temperature):
    """The base's scores, a query and a document at a time."""
    inner = np.einsum("qmd,nd->qnm", codes.astype(np.float64), vectors.astype(np.float64))
    weights = np.exp(inner / temperature)
    return (weights / weights.sum(-1, keepdims=True) * inner).sum(-1)


def test_lists_hold_one_right_answer_and_the_bases_best_of_a_sample(space):
    codes, vectors, rights = space
    scores = naive_scores(codes, vectors, 0.5)
    lists = draw_lists(codes, vectors, rights, 0.5, length=8, largest=300, seed=[1])
    assert len(lists.queries) > 100
    for query, listed, place in zip(*lists, strict=True):
        assert len(set(listed)) == 8
        assert listed[place] in rights[query]
        assert len(set(listed) & set(rights[query])) == 1
        assert scores[query][listed[place]] >= scores[query][listed].min()
    # Of as few documents as there can be, the sample is all of them: the base's best, and the right answer.
    rights = [[number] for number in range(8)] + [[8, 0]]
    lists = draw_lists(codes[:9], vectors[:9], rights, 0.5, length=5, largest=6, seed=[1])
    assert sorted(lists.queries) == list(range(9))
    lists = draw_lists(codes[:9], vectors[:9], rights, 0.5, length=8, largest=10**6, seed=[1])
    for query, listed, place in zip(*lists, strict=True):
        best = [number for number in np.argsort(-scores[query][:9]) if number not in rights[query]]
        assert set(np.delete(listed, place)) == set(best[:7])


def test_right_answers_stand_anywhere_and_the_seed_decides(space):
    lists = draw_lists(*space, 0.5, length=8, largest=100, seed=[1])
    counts = np.bincount(lists.right, minlength=8)
    assert counts.min() > 5
    for mine, theirs in zip(lists, draw_lists(*space, 0.5, length=8, largest=100, seed=[1]), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    other = draw_lists(*space, 0.5, length=8, largest=100, seed=[2])
    assert not np.array_equal(lists.queries[:50], other.queries[:50])


def test_few_documents_make_short_lists_and_too_few_none(space):
    codes, vectors, _ = space
    lists = draw_lists(codes[:4], vectors[:4], [[0], [1], [2], [3, 0]], 0.5, length=8, largest=100, seed=[0])
    assert lists.documents.shape[1] == 3
    with pytest.raises(TrainingError, match="2 distinct documents, of which up to 2 answer one query"):
        draw_lists(codes[:1], vectors[:2], [[0, 1]], 0.5, length=8, largest=100, seed=[0])


@pytest.mark.parametrize("architecture", ["bi", "poly"])
def test_a_head_that_helps_is_saved_with_its_base(build, examples, weights, assert_same, tmp_path, architecture):
    base = build(architecture, normalize=True)
    before = weights(base)
    seen = []
    options = ListwiseOptions(steps=300, patience=100, **QUICK)
    model, result = train_listwise(
        base, examples, examples, tmp_path / "listed", options, on_progress=lambda *what: seen.append(what)
    )
    assert_same(weights(base), before)
    assert result.accepted
    assert result.gain.low > 0
    assert result.metric == "MRR@100"
    assert result.after == max(value for _, value in result.history) > result.before
    # The figures are those of the reranker itself, measured by an independent path.
    task = whole_corpus(examples)
    assert evaluate(model, task, ["MRR"]).metrics["MRR"].mean == pytest.approx(result.after, abs=0.05)  # bf16 there
    assert evaluate(base, task, ["MRR"]).metrics["MRR"].mean == pytest.approx(result.before, abs=0.02)
    loaded = ListwiseReranker(tmp_path / "listed")
    texts = [example.positives[0] for example in examples]
    np.testing.assert_array_equal(loaded.score_lists(["tea"], [texts])[0], model.score_lists(["tea"], [texts])[0])
    assert "Validation MRR@100" in (tmp_path / "listed" / "README.md").read_text()
    assert {what for what, _, _ in seen} == {"queries", "documents", "training"}


def test_a_head_that_does_not_help_is_refused(build, examples, tmp_path):
    options = ListwiseOptions(steps=10, **QUICK | {"learning_rate": 1e-12})
    model, result = train_listwise(build("bi"), examples, examples, tmp_path / "listed", options)
    assert not result.accepted
    assert (result.before, result.best_step, result.gain.mean) == (result.after, 0, 0.0)
    assert not (tmp_path / "listed").exists()
    texts = [example.positives[0] for example in examples]
    assert model.rank("tea", texts) == model.base.rank("tea", texts)


def test_held_out_candidates_are_ranked_where_they_are_given(build, examples):
    texts = [example.positives[0] for example in examples]
    given = [
        Example(list(example.query), example.positives, candidates=[*texts[: 3 + place % 3], example.positives[0]])
        for place, example in enumerate(examples[6:])
    ]
    base = build("poly")
    _, result = train_listwise(base, examples, given, options=ListwiseOptions(steps=1, **QUICK))
    from polyencoders.evaluation import given_candidates

    expected = evaluate(base, given_candidates(given), ["MRR"]).metrics["MRR"].mean
    assert result.before == pytest.approx(expected, abs=0.02)


def test_a_teacher_is_followed(build, examples):
    class LikesLong:
        """Scores by length, which says nothing of what is right."""

        read = 0

        def score(self, lists, advance):
            self.read += len(lists)
            return np.array([[float(len(text)) for text in (*one.positives, *one.negatives)] for one in lists])

    teacher, base = LikesLong(), build("bi")
    found = {}
    for weight in (0.0, 1.0):
        options = ListwiseOptions(steps=150, teacher_weight=weight, patience=100, **QUICK)
        found[weight] = train_listwise(base, examples, examples, options=options, teacher=teacher)[1].history[-1][1]
    assert found[1.0] < 0.7 * found[0.0]  # which of them are found depends on the machine's rounding
    assert teacher.read <= 2 * len(examples)  # a list of each query once a run


def test_a_real_teacher_scores_the_right_documents(build, examples, tmp_path):
    teacher = Teacher(build("cross"), folder=tmp_path, bf16=False)
    asked = []
    score = teacher.score
    teacher.score = lambda lists, advance: asked.extend(lists) or score(lists, advance)
    options = ListwiseOptions(steps=2, **QUICK)
    train_listwise(build("bi"), examples, examples, options=options, teacher=teacher)
    right = {example.query: example.positives for example in examples}
    assert all(one.positives == right[one.query] and len(one.negatives) == 7 for one in asked)


def test_bad_options_and_examples_are_named(build, examples):
    with pytest.raises(TrainingError, match="depth must be a whole number of at least 2, got 1"):
        ListwiseOptions(depth=1)
    with pytest.raises(TrainingError, match="learning_rate must be a number above 0, got 0"):
        ListwiseOptions(learning_rate=0)
    with pytest.raises(TrainingError, match="dropout must be a number from 0 and below 1, got 1"):
        ListwiseOptions(dropout=1)
    with pytest.raises(TrainingError, match="at least 2 held out, got 24 and 0"):
        train_listwise(build("bi"), examples, [])
