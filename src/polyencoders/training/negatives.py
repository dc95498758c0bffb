"""Hard negatives: wrong documents that the model itself ranks high, mined once or again and again during training.

For each query all documents are ranked exactly, by the model's own score over its own query vectors or codes. A right
answer of the query, in any example, is no negative, nor is the same text in other case or white space. Nor is a
document that scores nearly as high as the right answer, because it is often right itself (NV-Retriever: Moreira et al.
2024, arXiv 2407.15831, section 3, "positive-aware mining"):

    score(query, negative) <= limit
    limit = positive - (1 - margin) |positive|      relative, `margin`: TopK-PercPos there, 0.95 its best
    limit = positive - absolute_margin              absolute: TopK-MarginPos

For a positive score the first is `margin * positive`. Of what is left, n are drawn from the ranks [a, b).
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import TrainerCallback

from polyencoders.data import Example
from polyencoders.data.examples import right_answers
from polyencoders.errors import TrainingError
from polyencoders.models import DualEncoder, encode_documents
from polyencoders.scoring import PreparedDocuments
from polyencoders.training.collator import text_id
from polyencoders.training.options import HardNegatives
from polyencoders.training.processes import by_the_first
from polyencoders.training.resume import kept_json

QUERIES_AT_ONCE = 256

Pair = tuple[tuple[str, ...], str]  # A query and one of its right answers


def mine_hard_negatives(
    model: Any, examples: Sequence[Example], options: HardNegatives | None = None, corpus: Sequence[str] = ()
) -> list[Example]:
    """Returns examples with mined negatives before their own, to train any model on, also a cross-encoder.

    There is one for each pair of a query and a right answer; it keeps the candidates where they hold the answer.

    Parameters
    ----------
    model
        A `BiEncoder` or `PolyEncoder`.
    examples
        Queries with right answers.
    options
        How many negatives, from which ranks, and how far below the right answer; `refresh_every` is not used.
    corpus
        More documents to mine, beside the examples' right answers.

    Raises
    ------
    TrainingError
        The model reads pairs and cannot search, or there are too few documents.
    """
    found = Miner(model, examples, options or HardNegatives(), corpus).mine()
    return [
        Example(
            example.query,
            positive,
            [*found[example.query, positive], *example.negatives],
            example.candidates if example.candidates and positive in example.candidates else None,
        )
        for example in examples
        for positive in example.positives
    ]


class Miner:
    """Mines negatives for all pairs of a training set, with a bi- or poly-encoder as it is at the time.

    `corpus` adds documents to the examples' right answers, and `encode` replaces the model's own encoding of documents,
    `n` texts to `(n, d)`. Raises a `TrainingError` where the model cannot search or there are too few wrong documents.
    """

    def __init__(
        self,
        model: Any,
        examples: Sequence[Example],
        options: HardNegatives,
        corpus: Sequence[str] = (),
        seed: int = 0,
        encode: Callable[[list[str]], NDArray[np.float32]] | None = None,
    ) -> None:
        if not isinstance(model, DualEncoder):
            raise TrainingError(
                f"a {type(model).__name__} reads pairs and cannot search for hard negatives: mine them with a bi- or "
                "poly-encoder (polyencoders.training.mine_hard_negatives)"
            )
        self.model = model
        self.options = options
        self.seed = seed
        self.encode = encode or (lambda texts: encode_documents(model, texts))
        self.right = right_answers(examples)
        self.documents = list(dict.fromkeys([*(text for texts in self.right.values() for text in texts), *corpus]))
        self.places = {text: place for place, text in enumerate(self.documents)}
        self._plain = {text: " ".join(text.casefold().split()) for text in self.documents}
        most = max(map(len, self.right.values()), default=0)
        distinct = len(set(self._plain.values()))
        if distinct - most < options.number:
            raise TrainingError(
                f"{options.number} hard negatives a query need at least {options.number + most} distinct documents, "
                f"there are {distinct}: ask for fewer, or give more examples"
            )

    def mine(self, step: int = 0) -> dict[Pair, list[str]]:
        """Returns as many negatives for each pair as were asked for; where too few are left, random ones fill up.

        The same `step` draws the same, another step draws anew.
        """
        was_training = self.model.training
        vectors = torch.from_numpy(self.encode(self.documents))
        documents = PreparedDocuments(vectors)
        queries = list(self.right)
        found: dict[Pair, list[str]] = {}
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            some = queries[start : start + QUERIES_AT_ONCE]
            codes = self.model.encode_query([list(query) for query in some], convert_to_tensor=True).detach().cpu()
            # Right answers and copies of them may take ranks above the last one that is asked for.
            depth = self.options.ranks[1] + 2 * max(len(self.right[query]) for query in some)
            scores, places = documents.search(codes.float(), depth, getattr(self.model, "temperature", 1.0))
            for i, query in enumerate(some):
                answers = self.right[query]
                own = self.model.similarity(codes[i : i + 1].float(), vectors[[self.places[text] for text in answers]])
                ranked = list(zip(places[i].tolist(), scores[i].tolist(), strict=True))
                for positive, score in zip(answers, own[0].tolist(), strict=True):
                    generator = np.random.default_rng((self.seed, step, start + i, self.places[positive]))
                    found[query, positive] = self._choose(query, score, ranked, generator)
        self.model.train(was_training)
        return found

    def others(
        self,
        query: tuple[str, ...],
        taken: Collection[str],
        number: int,
        generator: np.random.Generator,
        last: Sequence[str] = (),
    ) -> list[str]:
        """Returns random wrong documents of a query that are not taken, and some of `last` where too few are left.

        Raises a `TrainingError` where even those are too few.
        """
        right = {self._plain[text] for text in self.right[query]}
        found: dict[str, None] = {}
        # A few draws are enough, except where few documents are left.
        for place in generator.integers(len(self.documents), size=4 * number).tolist():
            text = self.documents[place]
            if len(found) < number and text not in taken and self._plain[text] not in right:
                found[text] = None
        if len(found) < number:
            free = (text for text in self.documents if text not in taken and text not in found)
            left = [text for text in free if self._plain[text] not in right]
            if len(left) < number - len(found):
                left += last
            if len(left) < number - len(found):
                raise TrainingError(
                    f"{number} random negatives beside {len(taken)} others need more documents than there are: "
                    f"{len(self.documents)}, right answers included; ask for fewer, or give more examples"
                )
            drawn = generator.choice(len(left), size=number - len(found), replace=False).tolist()
            found.update(dict.fromkeys(left[place] for place in drawn))
        return list(found)

    def _choose(
        self, query: tuple[str, ...], positive: float, ranked: list[tuple[int, float]], generator: np.random.Generator
    ) -> list[str]:
        """Returns the negatives of one pair, from the query's ranking."""
        first, last = self.options.ranks
        right = {self._plain[text] for text in self.right[query]}
        wrong = [(self.documents[place], score) for place, score in ranked]
        wrong = [(text, score) for text, score in wrong if self._plain[text] not in right][first:last]
        limit, number = self.options.limit(positive), self.options.number
        left = [text for text, score in wrong if score <= limit]
        if len(left) > number:
            chosen = sorted(generator.choice(len(left), size=number, replace=False).tolist())
            return [left[place] for place in chosen]
        # Documents above the limit are drawn only where nothing else is left.
        near = {text: score > limit for text, score in wrong}
        above = [text for text, is_above in near.items() if is_above]
        return left + self.others(query, near, number - len(left), generator, above)


class MinedNegatives(TrainerCallback):
    """The mined negatives of a run, mined again every `refresh_every` steps.

    What was mined is kept in a folder beside the checkpoints, so that a resumed run has the negatives of one that never
    stopped. They join a batch when its loss is computed, because a data loader reads a batch ahead.
    """

    def __init__(self, miner: Miner, folder: Path) -> None:
        self.miner = miner
        self.folder = folder
        self._found: dict[tuple[int, int], list[str]] = {}
        self._mined_at: int | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        every = self.miner.options.refresh_every
        step = state.global_step - state.global_step % every if every is not None else 0
        if step == self._mined_at:
            return
        pairs = [(query, positive) for query, answers in self.miner.right.items() for positive in answers]
        file = self.folder / f"negatives-{step}.json"
        places: list[list[int]] = by_the_first(lambda: kept_json(file, lambda: self._mined(step, pairs)))
        documents = self.miner.documents
        self._found = {
            (text_id(list(query)), text_id(positive)): [documents[place] for place in listed]
            for (query, positive), listed in zip(pairs, places, strict=True)
        }
        self._mined_at = step

    def _mined(self, step: int, pairs: list[Pair]) -> list[list[int]]:
        """Returns the places of each pair's negatives."""
        found = self.miner.mine(step)
        return [[self.miner.places[text] for text in found[pair]] for pair in pairs]

    def columns(self, query_ids: torch.Tensor, positive_ids: torch.Tensor) -> list[list[str]]:
        """Returns the texts of the columns to add to a batch, one column for each negative of a query."""
        keys = zip(query_ids.tolist(), positive_ids.tolist(), strict=True)
        return [list(column) for column in zip(*(self._found[key] for key in keys), strict=True)]
