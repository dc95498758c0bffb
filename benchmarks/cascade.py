"""What words and a reranker bring beside vectors, what they cost, and whether probabilities hold.

    python benchmarks/cascade.py --reranker cross-encoder/ms-marco-MiniLM-L-12-v2
    python benchmarks/cascade.py --quick         # one small task, an untrained reranker; writes nothing

Each task's documents are in an index, with the backbone as it comes. Four ways to search: vectors alone; with words;
with a reranker over the best 20 of that; the reranker alone over all candidates. The words' weight, the reranker's, and
the probabilities are chosen on validation queries; test queries are drawn by seed 0. The reranker is exported to ONNX
first, as one would use it. Of SciFact's 5,183 documents it reads the best 50 instead of all. Tasks as in `quality.py`.
"""

from report import Report, parser, put, table

# isort: split
import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model
from polyencoders.cli.display import quieten
from polyencoders.data import Example
from polyencoders.encoders import Reranker, load
from polyencoders.encoders.calibration import Calibration
from polyencoders.encoders.reranking import TOP, fused
from polyencoders.evaluation.calibrating import Marked, reliability
from polyencoders.evaluation.metrics import measure_ranks, pessimistic_ranks
from polyencoders.evaluation.tasks import CorpusTask
from polyencoders.evaluation.tuning import SAYS, WORDS
from polyencoders.export import export_model
from polyencoders.index import Index
from quality_tasks import RANKINGS, add_data_options, some
from quality_tasks import load as load_task

TASKS = ("scifact", "wikiqa", "banking77", "clinc150")
ALL = {"scifact": 50}
"""Candidates that stand for all, where all are too many to read."""
MOST = 150
QUERIES, VALIDATION = 100, 80
MEASURES = ("Success@1", "MRR", "nDCG@10")
WAYS = ("vectors", "+ words", "+ reranker of 20", "reranker of all")
EDGES = ("below 5%", "to 20%", "to 40%", "to 60%", "to 80%", "above")


class Found(NamedTuple):
    """What a search found for a query."""

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    texts: list[str]


class Part:
    """Queries of a task, which rank its index or, where each has a list of its own, a part of it."""

    def __init__(self, name: str, examples: Sequence[Example], corpus: Sequence[str], first: int) -> None:
        task = RANKINGS[name].ranked(examples, corpus)
        self.queries = list(task.queries)
        self.wheres: list[str | None] = [None] * len(self.queries)
        if isinstance(task, CorpusTask):
            documents = [(0, text) for text in task.corpus]
            self.right = [{task.corpus[place] for place in places} for places in task.relevant]
        else:
            documents = [(first + i, text) for i, texts in enumerate(task.documents) for text in texts]
            self.wheres = [f"list = {first + i}" for i in range(len(self.queries))]
            self.right = [
                {texts[place] for place in places} for texts, places in zip(task.documents, task.relevant, strict=True)
            ]
        self.documents = [{"text": text, "list": number} for number, text in dict.fromkeys(documents)]
        self.index: Any = None

    def search(self, words: float, k: int = MOST) -> Iterator[Found]:
        """Search for one query after the other, as users do."""
        for query, where, right in zip(self.queries, self.wheres, self.right, strict=True):
            (answer,) = self.index.search([query], k, where, words=words or False, rerank=False)
            texts = [hit.text or "" for hit in answer]
            is_right = np.array([text in right for text in texts], dtype=bool)
            yield Found(np.array([hit.score for hit in answer]), is_right, texts)

    def measure(self, found: Sequence[Found]) -> dict[str, float]:
        """The mean of each measure. A right answer that was not found ranks below all."""
        ranks = []
        for one, right in zip(found, self.right, strict=True):
            there = pessimistic_ranks(one.scores, np.flatnonzero(one.right).tolist())
            missing = 1000 + np.arange(len(right) - len(there))
            ranks.append(np.concatenate([there, missing]).astype(np.int64))
        values = measure_ranks(ranks, MEASURES, depth=MOST)
        return {name: float(some.mean()) for name, some in values.items()}


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    command.add_argument("--reranker", default="cross-encoder/ms-marco-MiniLM-L-12-v2", help="a cross-encoder")
    command.add_argument("--backbone", default=DEFAULT_BACKBONE, help="of the vectors")
    command.add_argument("--queries", type=int, default=QUERIES, help="test queries, at most")
    add_data_options(command)
    arguments = command.parse_args()
    quieten()
    if arguments.quick:
        arguments.tasks, arguments.queries = ["banking77"], 10
    report = Report("cascade", ("onnxruntime", "lancedb", "bm25s"), arguments.quick)
    with tempfile.TemporaryDirectory() as folder:
        reranker = build_model("cross-warm", DEFAULT_BACKBONE, {}) if arguments.quick else load(arguments.reranker)
        if hasattr(reranker, "parameters"):
            export_model(reranker, Path(folder) / "reranker")
            reranker = load(Path(folder) / "reranker")
        for name in tqdm(arguments.tasks, desc="cascade"):
            made = Path(folder) / name
            row = measured(name, arguments, Reranker(reranker, top=MOST), made)
            report.keep({"tasks": {**report.results.get("tasks", {}), name: row}})
    rows = report.results["tasks"]
    summary = {name: row["ways"] for name, row in rows.items()}
    shown = list(lines(rows))

    def blocks() -> None:
        made = "Made by [`benchmarks/cascade.py`](../benchmarks/cascade.py) ([with the machine]"
        put("cascade", [*shown, made + "(../benchmarks/results/cascade.md))."], "docs/searching-well.md")

    report.publish("Words and a reranker beside vectors", shown, summary, blocks=blocks)


def measured(name: str, arguments: argparse.Namespace, reranker: Reranker, folder: Path) -> dict[str, Any]:
    """All ways of one task."""
    splits = load_task(name, arguments.data, arguments.unpacked)
    number = 24 if arguments.quick else VALIDATION
    validation = Part(name, some(splits.validation, number), splits.corpus, 0)
    test = Part(name, some(splits.test, arguments.queries), splits.corpus, 1_000_000)
    index = Index.create(folder, build_model("bi", arguments.backbone, {}))
    documents = {(one["list"], one["text"]): one for one in (*validation.documents, *test.documents)}
    index.add([{"id": place, **one} for place, one in enumerate(documents.values())])
    validation.index = test.index = index

    def best(values: dict[float, float]) -> float:
        return max(values, key=lambda weight: values[weight])

    words = best({w: validation.measure(list(validation.search(w)))["nDCG@10"] for w in (0.0, *WORDS)})
    firsts = list(validation.search(words))
    seconds = [reranker.read(query, one.texts[:TOP]) for query, one in zip(validation.queries, firsts, strict=True)]
    spread = np.mean([[one.scores[:TOP].std(), np.nanstd(s)] for one, s in zip(firsts, seconds, strict=True)], axis=0)
    unit = float(spread[0] / spread[1])
    weight = best(
        {
            v: validation.measure([with_reader(*pair, v) for pair in zip(firsts, seconds, strict=True)])["nDCG@10"]
            for v in (0.0, *(unit * says for says in SAYS))
        }
    )
    fitted = [with_reader(*pair, weight) for pair in zip(firsts, seconds, strict=True)]

    ways: dict[str, dict[str, float]] = {}
    list(test.search(0.0, 1))  # warms up
    for way, used in zip(WAYS[:2], (0.0, words), strict=True):
        found, times = timed(test.search(used))
        ways[way] = {**test.measure(found), "ms": times}
    pairs = list(zip(test.queries, found, strict=True))
    read, reading = timed(reranker.read(query, one.texts[:TOP]) for query, one in pairs)
    cascade = [with_reader(one, some, weight) for (_, one), some in zip(pairs, read, strict=True)]
    ways[WAYS[2]] = {**test.measure(cascade), "ms": ways["+ words"]["ms"] + reading}
    most = ALL.get(name, MOST)
    whole = Reranker(reranker.model, top=MOST)  # which has not read the best 20 yet
    read, reading = timed(whole.read(query, one.texts[:most]) for query, one in pairs)
    alone = [one._replace(scores=np.pad(some, (0, len(one.texts) - len(some)), constant_values=-np.inf))
             for (_, one), some in zip(pairs, read, strict=True)]  # fmt: skip
    ways[WAYS[3]] = {**test.measure(alone), "ms": reading}
    said = reliability(Calibration.fit(*marked(fitted)), marked(cascade))
    return {
        "documents": len(index),
        "queries": len(test.queries),
        "candidates": statistics.mean(min(most, len(one.texts)) for one in found),
        "words": words,
        "weight": weight / unit,
        "ways": ways,
        "calibration": [[one.documents, one.said, one.right] if one.documents else [0, None, None] for one in said],
    }


def with_reader(one: Found, second: NDArray[np.float64], weight: float) -> Found:
    """The fused scores where the first were read."""
    padded = np.pad(second, (0, len(one.texts) - len(second)), constant_values=np.nan)
    return one._replace(scores=fused(one.scores, padded, weight))


def marked(found: Sequence[Found]) -> Marked:
    """The best 20 of each query."""
    best = [(one, np.argsort(-one.scores, kind="stable")[:TOP]) for one in found]
    return Marked([one.scores[places] for one, places in best], [one.right[places] for one, places in best])


def timed(made: Iterator[Any]) -> tuple[list[Any], float]:
    """What an iterator gives, and its median milliseconds for one."""
    done, times = [], []
    started = time.perf_counter()
    for one in made:
        times.append(time.perf_counter() - started)
        done.append(one)
        started = time.perf_counter()
    return done, 1000 * statistics.median(times)


def lines(rows: dict[str, Any]) -> Iterator[str]:
    """The report, in Markdown."""
    header = ("", "documents", "read of all", *(f"{way}: R@1, nDCG@10, ms" for way in WAYS), "words", "reranker")
    yield from table(header, (row_of(name, row) for name, row in rows.items()))
    yield "R@1 is the fraction of queries whose first document is right. Words and reranker: their weights, the"
    yield "reranker's in spreads of its scores and the first ones. ms: a query, from text to hits; of the last way the"
    yield "reading alone."
    yield ""
    yield "Probabilities of the best 20 documents, fitted on validation queries. Of test queries: number; said; right."
    yield ""
    yield from table(
        ("", *EDGES),
        (
            [name, *(f"{n}: {said:.0%}, {right:.0%}" if n else "–" for n, said, right in row["calibration"])]
            for name, row in rows.items()
        ),
    )


def row_of(name: str, row: dict[str, Any]) -> list[str]:
    ways = [f"{one['Success@1']:.3f}, {one['nDCG@10']:.3f}, {one['ms']:,.1f}" for one in row["ways"].values()]
    about = [f"{name} ({row['queries']} queries)", f"{row['documents']:,}", f"{row['candidates']:.0f}"]
    return [*about, *ways, f"{row['words']:g}", f"{row['weight']:g}"]


if __name__ == "__main__":
    main()
