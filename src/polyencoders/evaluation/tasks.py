"""Tasks: what each query ranks (given candidates, sampled candidates, or a corpus), and which answers are right."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from polyencoders.data.beir import Retrieval
from polyencoders.data.examples import Example, Query, right_answers, shortened
from polyencoders.errors import DataError


@dataclass(frozen=True)
class CandidateTask:
    """Queries, each with a list of its own to rank.

    `relevant` has for each query the positions of its right answers in its list; at least one. `protocol` is the task's
    name in a report, `seed` that of sampled lists. Raises a `DataError` if the lists differ in length or are empty, or
    a query has no right answer.
    """

    queries: Sequence[Query]
    documents: Sequence[Sequence[str]]
    relevant: Sequence[Sequence[int]]
    protocol: str = "given candidates"
    seed: int | None = None

    def __post_init__(self) -> None:
        if len(self.documents) != len(self.queries):
            raise DataError(f"{len(self.queries)} queries but {len(self.documents)} lists of documents")
        _check_relevant(self.queries, self.relevant, [len(documents) for documents in self.documents])

    @property
    def candidates(self) -> int | str:
        """The number of documents of each query, the C of R@k/C; `19-20` where it varies."""
        fewest, most = min(map(len, self.documents)), max(map(len, self.documents))
        return most if fewest == most else f"{fewest}-{most}"


@dataclass(frozen=True)
class CorpusTask:
    """Queries that all rank the same corpus; otherwise as `CandidateTask`.

    Judged sets say more. `grades` has how relevant each right answer is, in the order of `relevant`, and `absent` the
    grades of right answers that are not in the corpus: with either, a query may have no right answer there, and counts
    as missed. `own` is the position of the document that a query itself is, which it does not rank; or None. `missed`
    more queries, whose texts are not there, count as missed.
    """

    queries: Sequence[Query]
    corpus: Sequence[str]
    relevant: Sequence[Sequence[int]]
    protocol: str = "whole corpus"
    seed: None = None
    grades: Sequence[Sequence[int]] | None = None
    absent: Sequence[Sequence[int]] | None = None
    own: Sequence[int | None] | None = None
    missed: int = 0

    def __post_init__(self) -> None:
        lengths = [len(self.corpus)] * len(self.queries)
        _check_relevant(self.queries, self.relevant, lengths, may_be_empty=self.absent is not None)

    @property
    def candidates(self) -> int:
        """The number of documents of the corpus, the C of R@k/C."""
        return len(self.corpus)


Task = CandidateTask | CorpusTask


def given_candidates(examples: Sequence[Example]) -> CandidateTask:
    """Return a task that ranks the candidates of each example; all must have some, or it is a `DataError`.

    >>> task = given_candidates([Example("2 + 2?", "4", candidates=["3", "4", "5"])])
    >>> task.relevant, task.candidates
    ([[1]], 3)
    """
    documents, relevant = [], []
    for number, example in enumerate(examples, start=1):
        if example.candidates is None:
            raise DataError(
                f"example {number} of {len(examples)} has no candidates to rank ({shortened(example.query[0])}): "
                "give it some, or evaluate with sampled candidates"
            )
        documents.append(list(example.candidates))
        relevant.append([i for i, text in enumerate(example.candidates) if text in example.positives])
    return CandidateTask([_query(example) for example in examples], documents, relevant)


def shared_candidates(examples: Sequence[Example], corpus: Sequence[str]) -> CandidateTask:
    """Return the task of `given_corpus` as lists of candidates, for models that read pairs. Holds the list once.

    >>> shared_candidates([Example("Tea?", "Yes."), Example("Milk?", "No.")], ["No.", "Yes."]).relevant
    [[1], [0]]
    """
    task = given_corpus(examples, corpus)
    return CandidateTask(task.queries, [task.corpus] * len(task.queries), task.relevant, task.protocol)


def sampled_candidates(
    examples: Sequence[Example], candidates: int = 20, seed: int = 0, extra_documents: Iterable[str] = ()
) -> CandidateTask:
    """Return a task that ranks one right answer among random answers to other queries: R@k/C of dialogue papers.

    Each example becomes a query with one of its positives, chosen at random, at a random position of its list. The
    other C - 1 of the C `candidates` are drawn without repetition from the distinct positives of all examples and the
    `extra_documents`, never one that answers the same query in any example. The same seed and examples give the same
    lists. Raises a `DataError` where there are no examples, or too few distinct texts.

    >>> task = sampled_candidates([Example(f"{i} + 1?", str(i + 1)) for i in range(30)], candidates=10)
    >>> len(task.documents[7]), task.documents[7][task.relevant[7][0]]
    (10, '8')
    """
    if candidates < 2:
        raise DataError(f"candidates={candidates}: expected 2 or more, the right answer and something else")
    answers = right_answers(examples)
    pool = list(dict.fromkeys([text for example in examples for text in example.positives] + list(extra_documents)))
    place = {text: i for i, text in enumerate(pool)}
    rng = np.random.default_rng(seed)
    documents, relevant = [], []
    for number, example in enumerate(examples, start=1):
        right = {place[text] for text in answers[example.query]}
        if len(pool) - len(right) < candidates - 1:
            raise DataError(
                f"not enough distinct texts for {candidates} candidates: example {number} of {len(examples)} has "
                f"{len(pool) - len(right)} wrong answers to draw from ({shortened(example.query[0])}); "
                "ask for fewer candidates, or give more examples or extra_documents"
            )
        # Enough draws for C - 1 wrong answers, however many right ones are among them.
        drawn = rng.choice(len(pool), size=candidates - 1 + len(right), replace=False).tolist()
        listed = [pool[i] for i in drawn if i not in right][: candidates - 1]
        position = int(rng.integers(candidates))
        listed.insert(position, example.positives[int(rng.integers(len(example.positives)))])
        documents.append(listed)
        relevant.append([position])
    return CandidateTask([_query(example) for example in examples], documents, relevant, "sampled candidates", seed)


def most_candidates(examples: Sequence[Example], extra_documents: Iterable[str] = ()) -> int:
    """Return the length of the longest lists that `sampled_candidates` can draw for each of some examples.

    >>> most_candidates([Example("Tea?", ["Yes.", "No."]), Example("Milk?", "A little.")])
    2
    """
    right = right_answers(examples)
    pool = set(extra_documents).union(*right.values())
    return len(pool) - max(map(len, right.values()), default=0) + 1


def whole_corpus(examples: Sequence[Example], extra_documents: Iterable[str] = ()) -> CorpusTask:
    """Return a task that ranks every document of the examples.

    Their distinct positives, negatives and candidates, and the `extra_documents`, are the corpus. Examples with the
    same query become one query, and all their positives are right answers. No examples are a `DataError`.

    >>> task = whole_corpus([Example("Tea?", "Yes."), Example("Tea?", "No."), Example("Milk?", "Yes.")])
    >>> task.queries, task.corpus, task.relevant
    (['Tea?', 'Milk?'], ['Yes.', 'No.'], [[0, 1], [0]])
    """
    texts = [
        text for example in examples for text in (*example.positives, *example.negatives, *(example.candidates or ()))
    ]
    corpus = list(dict.fromkeys(texts + list(extra_documents)))
    place = {text: i for i, text in enumerate(corpus)}
    answers = right_answers(examples)
    return CorpusTask(
        [turns[0] if len(turns) == 1 else list(turns) for turns in answers],
        corpus,
        [[place[text] for text in right] for right in answers.values()],
    )


def given_corpus(examples: Sequence[Example], corpus: Sequence[str]) -> CorpusTask:
    """Return a task that ranks a given corpus, such as all replies of a system, or the names of all classes.

    Each example is a query of its own, even where another has the same text: what answers that one is wrong here
    (`whole_corpus` merges the two). A document of the `corpus`, such as that of `polyencoders.data.Splits`, that is
    given twice is ranked once. Raises a `DataError` where there are no examples, or a right answer is not in it.

    >>> task = given_corpus([Example("Tea?", "Yes."), Example("Tea?", "No.")], ["No.", "Perhaps.", "Yes."])
    >>> task.queries, task.corpus, task.relevant
    (['Tea?', 'Tea?'], ('No.', 'Perhaps.', 'Yes.'), [[2], [0]])
    """
    documents = tuple(dict.fromkeys(corpus))
    place = {text: i for i, text in enumerate(documents)}
    relevant = []
    for number, example in enumerate(examples, start=1):
        missing = next((text for text in example.positives if text not in place), None)
        if missing is not None:
            raise DataError(
                f"example {number} of {len(examples)}: its right answer is not among the {len(documents)} documents of "
                f"the corpus: {shortened(missing)}"
            )
        relevant.append([place[text] for text in example.positives])
    return CorpusTask([_query(example) for example in examples], documents, relevant, "given corpus")


def judged_corpus(found: Retrieval, split: str, queries: int | None = None, seed: int = 0) -> CorpusTask:
    """Return a task that ranks a judged set as BEIR and trec_eval do: by ids, with grades.

    Judged documents that are not there are right answers that nothing finds; judged queries that are not there, or
    have no relevant document, are missed. A query's own document (`found.own`) is left out of its ranking, as in BEIR.
    `queries` bounds their number; `seed` chooses them. Raises a `DataError` where the split has no judgements, or none
    of its queries is there.

    >>> tea = Retrieval({"d1": "Tea.", "d2": ""}, {"q": "Tea?"}, {"test": {"q": {"d1": 2, "d9": 1}, "p": {"d2": 1}}})
    >>> task = judged_corpus(tea, "test")
    >>> task.relevant, task.grades, task.absent, task.missed
    ([[0]], [[2]], [[1]], 1)
    """
    qrels = found.judgements(split)
    names = list(qrels)
    if queries is not None and queries < len(names):
        names = random.Random(seed).sample(names, queries)
    there = [name for name in names if name in found.queries]
    place = {document: i for i, document in enumerate(found.corpus)}
    relevant, grades, absent, own = [], [], [], []
    for name in there:
        itself = found.own(name, qrels[name])
        right = {document: grade for document, grade in qrels[name].items() if grade > 0}
        known = [document for document in right if document in place]
        relevant.append([place[document] for document in known])
        grades.append([right[document] for document in known])
        absent.append([grade for document, grade in right.items() if document not in known])
        own.append(None if itself is None else place[itself])
    return CorpusTask(
        [found.queries[name] for name in there],
        list(found.corpus.values()),
        relevant,
        "judged corpus",
        grades=grades,
        absent=absent,
        own=own,
        missed=len(names) - len(there),
    )


def _query(example: Example) -> Query:
    return example.query[0] if len(example.query) == 1 else list(example.query)


def _check_relevant(
    queries: Sequence[Query], relevant: Sequence[Sequence[int]], lengths: Sequence[int], may_be_empty: bool = False
) -> None:
    if not queries:
        raise DataError("no queries to evaluate")
    if len(relevant) != len(queries):
        raise DataError(f"{len(queries)} queries but {len(relevant)} lists of right answers")
    for number, (positions, length) in enumerate(zip(relevant, lengths, strict=True), start=1):
        if not positions and may_be_empty:
            continue
        if not positions:
            raise DataError(f"query {number} has no right answer among its {length} documents")
        if len(set(positions)) < len(positions) or min(positions) < 0 or max(positions) >= length:
            raise DataError(
                f"query {number}: the positions of its right answers are {shortened(list(positions))}, "
                f"expected distinct positions below {length}"
            )
