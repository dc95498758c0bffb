"""Hard negatives: wrong documents that a model itself takes for right ones, found by searching all there are.

For each query the documents are ranked by the model's own score over its own query vectors or codes, exactly. Right
answers of the query are no negatives, whichever example they stand in, nor is the same text in other case or white
space; nor is a document that scores nearly as high as the right answer, which is often right and only not known to be
(NV-Retriever: Moreira et al. 2024, arXiv 2407.15831, section 3; "positive-aware mining"):

    score(query, negative) <= limit
    limit = positive - (1 - margin) |positive|      relative, `margin`: TopK-PercPos there, 0.95 its best
    limit = positive - absolute_margin              absolute: TopK-MarginPos

For a positive score the first is `margin * positive`. Of what is left, n are drawn from the ranks [a, b). Knows bi- and
poly-encoders, examples and exact search; nothing of trainers or losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polyencoders.data import Example
from polyencoders.data.examples import right_answers
from polyencoders.errors import TrainingError
from polyencoders.models.dual import DualEncoder
from polyencoders.models.encoding import encode_documents
from polyencoders.scoring import PreparedDocuments
from polyencoders.training.options import HardNegatives

QUERIES_AT_ONCE = 256

Pair = tuple[tuple[str, ...], str]
"""A query and one of its right answers."""


def mine_hard_negatives(
    model: Any, examples: Sequence[Example], options: HardNegatives | None = None, corpus: Sequence[str] = ()
) -> list[Example]:
    """Examples with negatives that a model found, before those they have: to train any model with, a cross-encoder too.

    Parameters
    ----------
    model
        A `BiEncoder` or `PolyEncoder`.
    examples
        Queries with right answers.
    options
        How many, from which ranks and how far below the right answer; `refresh_every` is not asked.
    corpus
        More documents to find them in, beside the examples' own right answers.

    Returns
    -------
    list of Example
        One for each pair of a query and a right answer.

    Raises
    ------
    TrainingError
        The model reads pairs and cannot search, or there are too few documents.
    """
    options = options or HardNegatives()
    found = Miner(model, examples, options, corpus).mine()
    return [
        Example(example.query, positive, [*found[example.query, positive], *example.negatives], example.candidates)
        for example in _apart(examples)
        for positive in example.positives
    ]


def _apart(examples: Sequence[Example]) -> list[Example]:
    """Examples of a right answer each; the others' texts, and lists without the answer, are left behind."""
    return [
        Example(
            example.query,
            positive,
            example.negatives,
            example.candidates if example.candidates and positive in example.candidates else None,
        )
        for example in examples
        for positive in example.positives
    ]


class Miner:
    """Finds negatives of all pairs of a training set with a model as it is at the time.

    Parameters
    ----------
    model
        A bi- or poly-encoder.
    examples
        The training set.
    options
        How many, from which ranks and how far below the right answer.
    corpus
        More documents, beside the examples' right answers.
    seed
        Of what is drawn.
    encode
        Another way to encode documents, `n` texts to `(n, d)`.

    Raises
    ------
    TrainingError
        The model cannot search, or a query has too few documents that are wrong.
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
        self.documents = list(
            dict.fromkeys([text for answers in self.right.values() for text in answers] + list(corpus))
        )
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
        """Negatives of each pair, as many as were asked for; where too few are left, random wrong documents besides.

        Parameters
        ----------
        step
            At which training is: what is drawn differs from one to the next, and is the same for the same.
        """
        was_training = self.model.training
        vectors = torch.from_numpy(self.encode(self.documents))
        documents = PreparedDocuments(vectors)
        queries = list(self.right)
        found: dict[Pair, list[str]] = {}
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            some = queries[start : start + QUERIES_AT_ONCE]
            codes = self.model.encode_query([list(query) for query in some], convert_to_tensor=True).detach().cpu()
            # As many right answers as a query has may stand above the last rank that is asked for, and copies of them.
            depth = self.options.ranks[1] + 2 * max(len(self.right[query]) for query in some)
            temperature = getattr(self.model, "temperature", 1.0)
            scores, places = documents.search(codes.float(), depth, temperature)
            for i, query in enumerate(some):
                answers = self.right[query]
                own = self.model.similarity(codes[i : i + 1].float(), vectors[[self.places[text] for text in answers]])
                ranked = list(zip(places[i].tolist(), scores[i].tolist(), strict=True))
                for positive, score in zip(answers, own[0].tolist(), strict=True):
                    generator = np.random.default_rng((self.seed, step, start + i, self.places[positive]))
                    found[query, positive] = self._chosen(query, score, ranked, generator)
        self.model.train(was_training)
        return found

    def others(
        self, query: tuple[str, ...], taken: Sequence[str], number: int, generator: np.random.Generator
    ) -> list[str]:
        """Random wrong documents of a query, beside those that are taken.

        Raises
        ------
        TrainingError
            There are too few.
        """
        excluded = {self._plain[text] for text in self.right[query]}
        found: dict[str, None] = {}
        # A few draws are enough but where few documents are left.
        for place in generator.integers(len(self.documents), size=4 * number).tolist():
            if len(found) == number:
                break
            text = self.documents[place]
            if text not in taken and self._plain[text] not in excluded:
                found[text] = None
        if len(found) < number:
            left = [
                text
                for text in self.documents
                if text not in taken and text not in found and self._plain[text] not in excluded
            ]
            if len(left) < number - len(found):
                raise TrainingError(
                    f"{number} random negatives beside {len(taken)} others need more documents than there are: "
                    f"{len(self.documents)}, right answers included; ask for fewer, or give more examples"
                )
            drawn = generator.choice(len(left), size=number - len(found), replace=False).tolist()
            found.update(dict.fromkeys(left[place] for place in drawn))
        return list(found)

    def _chosen(
        self, query: tuple[str, ...], positive: float, ranked: list[tuple[int, float]], generator: np.random.Generator
    ) -> list[str]:
        first, last = self.options.ranks
        right = {self._plain[text] for text in self.right[query]}
        wrong = [(self.documents[place], score) for place, score in ranked]
        wrong = [(text, score) for text, score in wrong if self._plain[text] not in right][first:last]
        limit, number = self.options.limit(positive), self.options.number
        left = [text for text, score in wrong if score <= limit]
        if len(left) > number:
            chosen = sorted(generator.choice(len(left), size=number, replace=False).tolist())
            return [left[place] for place in chosen]
        # Those too near the right answer are drawn only where there is nothing else.
        near = {text for text, _ in wrong}
        others = [text for text in self.documents if text not in near and self._plain[text] not in right]
        if len(others) < number - len(left):
            others += [text for text, score in wrong if score > limit]
        drawn = generator.choice(len(others), size=number - len(left), replace=False).tolist()
        return left + [others[place] for place in drawn]
