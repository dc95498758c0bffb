"""Training a listwise head on a frozen base: vectors are computed once, lists are drawn from them, the best is kept.

A head whose gain on held-out queries is no more than chance could give is refused: the base's ranking stays. A run
takes about a minute beside the encoding, and an interrupted one starts again; nothing is written before it has ended.
Knows bases, examples and lists; how lists are drawn is in `listwise_lists.py`.
"""

from __future__ import annotations

import copy
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from polyencoders.data import Example
from polyencoders.data.examples import right_answers
from polyencoders.errors import TrainingError
from polyencoders.evaluation import Interval, paired_difference
from polyencoders.models.bi_encoder import BiEncoder
from polyencoders.models.encoding import encode_documents, encode_queries
from polyencoders.models.listwise import ListwiseReranker, head_settings
from polyencoders.models.listwise_head import ListwiseHead
from polyencoders.models.poly_encoder import PolyEncoder
from polyencoders.models.precision import bf16_is_native
from polyencoders.models.text import Query
from polyencoders.scoring import PreparedDocuments
from polyencoders.training.listwise_lists import Lists, draw_lists
from polyencoders.training.teacher import Teacher

VALIDATION_DOCUMENTS = 2000
"""Documents among which held-out answers are to be found, at most (and the answers themselves)."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is, and how much there is."""


@dataclass(frozen=True, kw_only=True)
class ListwiseOptions:
    """The choices of a head's training; the defaults were chosen on validation data (docs/listwise.md).

    Parameters
    ----------
    steps
        Updates of the weights.
    batch_size
        Lists in a step.
    learning_rate
        The highest, reached after a tenth of the steps and then falling to 0.
    documents
        Of a list to train on: the right answer and the base's best of a sample.
    largest_sample
        Documents in a sample, at most: about as many as will be searched, or thousands.
    layers, width, dropout
        Of the head.
    depth
        Documents that the head reads together when it is used.
    teacher_weight
        What share of the loss follows the teacher, where there is one.
    evaluate_every
        Steps between validations; default a tenth of the steps.
    patience
        Validations without improvement after which training stops.
    validation_queries
        The most queries to validate on.
    seed
        Of new weights, lists and dropout.

    Raises
    ------
    TrainingError
        A choice cannot be one.
    """

    steps: int = 600
    batch_size: int = 48
    learning_rate: float = 1e-3
    documents: int = 32
    largest_sample: int = 4000
    layers: int = 2
    width: int = 128
    dropout: float = 0.2
    depth: int = 100
    teacher_weight: float = 0.5
    evaluate_every: int | None = None
    patience: int = 5
    validation_queries: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch_size": 1, "documents": 2, "largest_sample": 2, "layers": 1, "width": 1, "depth": 2}
        for name, minimum in {**least, "evaluate_every": 1, "patience": 1, "validation_queries": 2, "seed": 0}.items():
            value = getattr(self, name)
            if value is None and name == "evaluate_every":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise TrainingError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
        if not 0 < self.learning_rate < math.inf:
            raise TrainingError(f"learning_rate must be a number above 0, got {self.learning_rate!r}")
        for name, most in (("dropout", "below 1"), ("teacher_weight", "at most 1")):
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name == "dropout" and value == 1):
                raise TrainingError(f"{name} must be a number from 0 and {most}, got {value!r}")


class ListwiseResult(NamedTuple):
    """What a run came to."""

    accepted: bool
    """Whether the head is better than its base on held-out queries, by more than chance could give."""
    metric: str
    """What was measured: the mean reciprocal rank of the best right answer, 0 where it is below the depth."""
    before: float
    """It, of the base."""
    after: float
    """It, of the best head."""
    gain: Interval
    """The difference over the same queries, with its 95% interval."""
    steps: int
    best_step: int
    seconds: float
    """Of encoding and training."""
    history: list[tuple[int, float]]
    """`(step, value)` of each validation."""


def train_listwise(
    base: BiEncoder | PolyEncoder,
    examples: Sequence[Example],
    validation: Sequence[Example],
    output_dir: str | os.PathLike[str] | None = None,
    options: ListwiseOptions | None = None,
    teacher: Teacher | None = None,
    on_progress: Progress = lambda what, done, total: None,
) -> tuple[ListwiseReranker, ListwiseResult]:
    """Train a head on a base that stays as it is, and save both, if it helps.

    The loss is the cross-entropy over each list, `-log softmax_j(scale score_j)_right`, and with a teacher, by
    `teacher_weight`, the divergence from its softmax over the same list, `KL(softmax(t) || softmax(scale score))`. The
    checkpoint is chosen by held-out queries, each to find its answer in its own `candidates` where all have them, else
    among the documents of all of them (at most 2,000). Where the best gain's 95% interval does not leave out 0, the
    head is refused: the reranker has a new one, which changes nothing, and nothing is saved.

    Parameters
    ----------
    base
        A trained bi- or poly-encoder; best on other examples than these, whose answers it finds more easily.
    examples
        To train on. Their negatives join the documents from which lists are drawn.
    validation
        Held-out examples.
    output_dir
        Where base and head are saved, whole or not at all. None: nowhere.
    options
        The choices; the defaults of `ListwiseOptions` otherwise.
    teacher
        Of a cross-encoder, say: it scores a list of every query, once, and its scores are kept.
    on_progress
        Told of `queries`, `documents`, `teacher` and `training`.

    Returns
    -------
    tuple of ListwiseReranker and ListwiseResult

    Raises
    ------
    TrainingError
        No examples, none held out, too few documents, or a loss that is not a number.
    """
    options = options or ListwiseOptions()
    if not examples or len(validation) < 2:
        raise TrainingError(
            "a listwise head needs examples to train on and at least 2 held out, "
            f"got {len(examples)} and {len(validation)}"
        )
    started = time.perf_counter()
    encode = _Encoder(base, on_progress)
    train, held_out = _training_set(examples, encode), _held_out(validation, encode, options)
    torch.manual_seed(options.seed)
    head = ListwiseHead(**head_settings(base), layers=options.layers, width=options.width, dropout=options.dropout).to(
        base.device
    )
    before = held_out.reciprocal_ranks(head)
    best_values, best_step, history = before, 0, []
    best = copy.deepcopy(head.state_dict())
    step = 0
    for step, loss in _steps(head, train, teacher, options, on_progress):
        if step % (options.evaluate_every or max(1, options.steps // 10)) and step < options.steps:
            continue
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} after {step} steps; a lower learning rate (it is {options.learning_rate:g}) "
                "is the first thing to try. Nothing was saved"
            )
        values = held_out.reciprocal_ranks(head)
        history.append((step, float(values.mean())))
        if values.mean() > best_values.mean():
            best_values, best_step, best = values, step, copy.deepcopy(head.state_dict())
        if len(history) - sum(at <= best_step for at, _ in history) >= options.patience:
            break
    gain = paired_difference(best_values, before)
    accepted = gain.low > 0
    if accepted:
        head.load_state_dict(best)
    result = ListwiseResult(
        accepted,
        f"MRR@{options.depth}",
        float(before.mean()),
        float(best_values.mean()),
        gain,
        step,
        best_step,
        time.perf_counter() - started,
        history,
    )
    reranker = ListwiseReranker(base, head if accepted else None, depth=options.depth)
    reranker.training_record = _record(result, train, options) if accepted else None
    if accepted and output_dir is not None:
        reranker.save_pretrained(output_dir)
    return reranker, result


@dataclass(frozen=True)
class _Encoder:
    """Texts to vectors by a base, with progress."""

    base: BiEncoder | PolyEncoder
    on_progress: Progress

    def queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        codes = encode_queries(self.base, queries, None, self._counting("queries", len(queries)))
        return codes if codes.ndim == 3 else codes[:, None]

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return encode_documents(self.base, texts, None, self._counting("documents", len(texts)))

    @property
    def temperature(self) -> float:
        return float(head_settings(self.base)["temperature"])

    def _counting(self, what: str, total: int) -> Callable[[int], None]:
        done = 0

        def advance(number: int) -> None:
            nonlocal done
            done += number
            self.on_progress(what, done, total)

        return advance


class _TrainingSet(NamedTuple):
    queries: list[Query]
    texts: list[str]
    codes: NDArray[np.float32]
    vectors: NDArray[np.float32]
    rights: list[list[int]]
    temperature: float

    def lists(self, options: ListwiseOptions, epoch: int) -> Lists:
        lists = draw_lists(
            self.codes,
            self.vectors,
            self.rights,
            self.temperature,
            options.documents,
            options.largest_sample,
            [options.seed, epoch],
        )
        if not len(lists.queries):
            raise TrainingError("the base finds no right answer among its best: train it first")
        return lists


def _training_set(examples: Sequence[Example], encode: _Encoder) -> _TrainingSet:
    answers = right_answers(examples)
    others = (text for example in examples for text in example.negatives)
    texts = list(dict.fromkeys([text for right in answers.values() for text in right] + list(others)))
    place = {text: number for number, text in enumerate(texts)}
    queries: list[Query] = [list(query) for query in answers]
    rights = [[place[text] for text in right] for right in answers.values()]
    return _TrainingSet(queries, texts, encode.queries(queries), encode.documents(texts), rights, encode.temperature)


@dataclass(frozen=True)
class _HeldOut:
    """The lists that the base's search gives of held-out queries, which never change."""

    codes: Tensor
    vectors: Tensor
    documents: Tensor
    """`(q, k)`: the base's best."""
    right: Tensor
    """`(q, k)`: which of them are right."""
    present: Tensor
    """`(q, k)`: false where a shorter list is filled up."""

    def reciprocal_ranks(self, head: ListwiseHead) -> NDArray[np.float64]:
        """Of the best right answer in the head's order, `(q,)`; ties count against it, and 0 where there is none."""
        device = next(head.parameters()).device
        training, found = head.training, []
        head.eval()
        with torch.inference_mode():
            for start in range(0, len(self.codes), 32):
                some = slice(start, start + 32)
                vectors = self.vectors[self.documents[some]].to(device)
                scores = head(self.codes[some].to(device), vectors, self.present[some].to(device)).cpu()
                right = self.right[some]
                best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
                above = ((scores >= best) & ~right & self.present[some]).sum(1)
                found.append(torch.where(right.any(1), 1 / (1 + above.double()), 0))
        head.train(training)
        return torch.cat(found).numpy()


def _held_out(validation: Sequence[Example], encode: _Encoder, options: ListwiseOptions) -> _HeldOut:
    rng = random.Random(options.seed)
    # Neighbours in a file are often of one conversation or topic, so the first n would be few of them.
    chosen = rng.sample(list(validation), min(options.validation_queries, len(validation)))
    given = all(example.candidates for example in chosen)
    if given:
        queries: list[Query] = [list(example.query) for example in chosen]
        right_texts = [set(example.positives) for example in chosen]
        texts = list(dict.fromkeys(text for example in chosen for text in example.candidates or ()))
    else:
        answers = right_answers(chosen)
        queries, right_texts = [list(query) for query in answers], [set(right) for right in answers.values()]
        texts = list(dict.fromkeys(text for right in answers.values() for text in right))
        others = list(
            dict.fromkeys(text for example in validation for text in (*example.positives, *example.negatives))
        )
        rng.shuffle(others)
        texts = list(dict.fromkeys(texts + others[: max(0, VALIDATION_DOCUMENTS - len(texts))]))
    codes, vectors = encode.queries(queries), encode.documents(texts)
    place = {text: number for number, text in enumerate(texts)}
    depth = min(options.depth, len(texts))
    documents = np.zeros((len(queries), depth), dtype=np.int64)
    present = np.zeros((len(queries), depth), dtype=bool)
    if given:
        for row, example in enumerate(chosen):
            own = np.array([place[text] for text in example.candidates or ()])
            found = PreparedDocuments(vectors[own]).search(codes[row : row + 1], depth, encode.temperature).indices[0]
            documents[row, : len(found)], present[row, : len(found)] = own[found], True
    else:
        documents[:] = PreparedDocuments(vectors).search(codes, depth, encode.temperature).indices
        present[:] = True
    right = np.array([[texts[number] in right_texts[row] for number in listed] for row, listed in enumerate(documents)])
    tensors = (torch.from_numpy(array) for array in (codes, vectors, documents, right & present, present))
    return _HeldOut(*tensors)


def _steps(
    head: ListwiseHead, train: _TrainingSet, teacher: Teacher | None, options: ListwiseOptions, on_progress: Progress
) -> Iterator[tuple[int, float]]:
    """Make the updates; gives the number of each, and its loss."""
    device = next(head.parameters()).device
    codes, vectors = torch.from_numpy(train.codes), torch.from_numpy(train.vectors)
    optimizer = torch.optim.AdamW(head.parameters(), lr=options.learning_rate, weight_decay=0.01)
    half = bf16_is_native(device)
    lists = train.lists(options, 0)
    taught = None if teacher is None else _taught(teacher, train, lists, on_progress)
    epoch, position = 0, 0
    for step in range(1, options.steps + 1):
        if position >= len(lists.queries):
            epoch, position = epoch + 1, 0
            # A teacher has read the lists there are; without one, new ones are free.
            if taught is None:
                lists = train.lists(options, epoch)
        some = slice(position, position + options.batch_size)
        position += options.batch_size
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * _share(step, options.steps)
        head.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            listed = vectors[torch.from_numpy(lists.documents[some])].to(device)
            scores = head(codes[torch.from_numpy(lists.queries[some])].to(device), listed)
        logits = head.scale * scores.float()
        loss = functional.cross_entropy(logits, torch.from_numpy(lists.right[some]).to(device))
        if taught is not None:
            follow = functional.kl_div(logits.log_softmax(1), taught[some].to(device).softmax(1), reduction="batchmean")
            loss = (1 - options.teacher_weight) * loss + options.teacher_weight * follow
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        on_progress("training", step, options.steps)
        yield step, loss.item()


def _share(step: int, steps: int) -> float:
    """Of the learning rate: rising for a tenth of the steps, then falling to 0."""
    warm = max(1, steps // 10)
    return step / warm if step <= warm else (steps - step + 1) / (steps - warm + 1)


def _taught(teacher: Teacher, train: _TrainingSet, lists: Lists, on_progress: Progress) -> Tensor:
    """The teacher's scores of the documents of every list, `(L, n)`."""
    asked = []
    there = np.arange(lists.documents.shape[1]) == lists.right[:, None]
    for query, right, wrong in zip(
        lists.queries, lists.documents[there], lists.documents[~there].reshape(len(there), -1), strict=True
    ):
        negatives = [train.texts[document] for document in wrong]
        asked.append(Example(train.queries[query], train.texts[right], negatives=negatives))
    scores = teacher.score(asked, lambda done, total: on_progress("teacher", done, total))
    listed = np.empty(there.shape, dtype=np.float32)
    listed[there], listed[~there] = scores[:, 0], scores[:, 1:].ravel()
    return torch.from_numpy(listed)


def _record(result: ListwiseResult, train: _TrainingSet, options: ListwiseOptions) -> dict[str, Any]:
    return {
        "Queries": f"{len(train.queries):,}",
        "Steps": f"{result.steps:,} of {options.batch_size} lists of {options.documents}",
        "Learning rate": f"{options.learning_rate:g}",
        "Seed": options.seed,
        f"Validation {result.metric}": (
            f"{result.before:.3f} by the base alone, {result.after:.3f} after step {result.best_step}"
        ),
    }
