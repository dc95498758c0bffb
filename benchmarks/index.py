"""An index: adding, opening, exact and fast search, memory, beside FAISS, LanceDB and sentence-transformers.

    python benchmarks/index.py            # half an hour, and a quarter of an hour to make the vectors once
    python benchmarks/index.py --quick    # under a minute; few documents, shows that it runs
    python benchmarks/index.py --parts million memory    # some of: adding, corpus, million, memory

`adding`: the built-in replies by the command, and the rate beside sentence-transformers' own `encode` of the same
texts. `corpus`: opening and searching them. `million`: a million documents (those replies and others made from them,
see trained_vectors.py), exact and fast. `memory`: the memory of searching and adding, each in a process of its own.
Contenders are timed in turn; figures are medians.

Writes benchmarks/results/index.{json,md,png} and keeps the parts that were not run; the last line printed is the
summary as one JSON object. Nothing else should run meanwhile.
"""

from __future__ import annotations

from report import CACHE, Report, parser

# isort: split
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faiss
import lancedb
import numpy as np
import pyarrow as pa
import torch
from tqdm import tqdm

from index_report import FLAT, SCAN, draw, into_readme, lines, summary
from polyencoders.data import chitchat_replies
from polyencoders.index import Index
from polyencoders.models import BiEncoder
from polyencoders.scoring.torch_score import score_all_pairs
from timing import medians
from trained_vectors import TEMPERATURE, TrainedVectors

BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
K = 10
FRACTIONS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.4, 0.7, 1.0)
PROBES = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    replies: int | None = None
    block: int = 2_048
    blocks: int = 3
    millions: int = 1_000_000
    codes: tuple[int, ...] = (4, 16)
    queries: int = 200
    rounds: int = 21
    folder: Path = CACHE
    vectors: TrainedVectors = field(default_factory=TrainedVectors)


def main() -> None:
    arguments = parser(__doc__, PARTS).parse_args()
    packages = ("torch", "sentence-transformers", "faiss-cpu", "lancedb", "numpy")
    report = Report("index", packages, arguments.quick)
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan()
        if arguments.quick:
            vectors = TrainedVectors(Path(folder), documents=1_500, examples=64, queries=20, steps=20)
            plan = Plan(500, 64, 1, 1_500, (4,), 10, 3, Path(folder), vectors)
        for part in arguments.parts:
            report.keep({part: PARTS[part](plan)})
    results = report.results
    report.publish(
        "The index",
        lines(results),
        summary(results),
        lambda path: draw(results, path) if "million" in results else None,
        lambda: into_readme(results) if "million" in results else None,
    )


def adding(plan: Plan) -> dict[str, Any]:
    """Texts a second beside sentence-transformers, and all texts by the command."""
    replies = chitchat_replies()[: plan.replies]
    model = BiEncoder(_backbone())
    plain = _sentence_transformer()
    half = _sentence_transformer().to(torch.bfloat16)
    order = np.random.default_rng(0).permutation(len(replies))
    rates: dict[str, list[float]] = {"polyencoders": [], "sentence-transformers": [], "the same, in bf16": []}
    cosines = []
    for block in tqdm(range(plan.blocks), desc="adding"):
        texts = [replies[place]["text"] for place in order[block * plan.block : (block + 1) * plan.block]]
        made = {}
        for name, encode in (
            ("polyencoders", model.encode_documents),
            ("sentence-transformers", lambda texts: plain.encode(texts, show_progress_bar=False)),
            ("the same, in bf16", lambda texts: half.encode(texts, convert_to_tensor=True, show_progress_bar=False)),
        ):
            started = time.perf_counter()
            made[name] = encode(texts)
            rates[name].append(len(texts) / (time.perf_counter() - started))
        ours, theirs = made["polyencoders"], made["sentence-transformers"]
        cosines.append(float(((ours * theirs).sum(1) / np.linalg.norm(ours, axis=1)).min()))
    folder = plan.folder / "index-replies"
    shutil.rmtree(folder, ignore_errors=True)
    data = "chitchat"
    if plan.replies is not None:
        data = str(plan.folder / "replies.jsonl")
        Path(data).write_text("".join(json.dumps(reply) + "\n" for reply in replies), encoding="utf-8")
    command = [sys.executable, "-m", "polyencoders", "index", "create", str(folder), "--data", data]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    again = time.perf_counter()
    subprocess.run(command, capture_output=True, text=True, check=True)
    return {
        "rates": {name: statistics.median(values) for name, values in rates.items()},
        "texts": plan.block * plan.blocks,
        "least cosine": min(cosines),
        "command": {
            "documents": len(Index.open(folder)),
            "seconds": seconds,
            "again": time.perf_counter() - again,
            "MB": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6,
        },
    }


def corpus(plan: Plan) -> list[dict[str, Any]]:
    """Opening and searching the index of the built-in replies, beside LanceDB and FAISS."""
    documents = plan.vectors.corpus(384)
    folder = plan.folder / "index-corpus"
    if not folder.exists():
        Index.from_vectors(folder, documents)
    rows = []
    for m in plan.codes:
        codes = plan.vectors.codes(384, m)[: plan.queries]
        one = np.ascontiguousarray(plan.vectors.codes(384, 1)[: plan.queries, 0])
        started = time.perf_counter()
        index = Index.open(folder)
        opened = len(index) and time.perf_counter() - started
        index.search(codes[:1], K, temperature=TEMPERATURE)
        first = time.perf_counter() - started
        contenders: dict[str, Callable[[int], Any]] = {
            "exact": _searching(index, codes),
            "fast": _searching(index, codes, mode="fast"),
        }
        truth = [{hit.id for hit in answer} for answer in index.search(codes, K, temperature=TEMPERATURE)]
        fast = index.search(codes, K, mode="fast", temperature=TEMPERATURE)
        recall = {"exact": 1.0, "fast": _recall([{hit.id for hit in answer} for answer in fast], truth)}
        if m == plan.codes[0]:
            peers, peers_recall = _peers(plan, documents, one)
            contenders |= peers
            recall |= peers_recall
        rows.append(
            {
                "m": m,
                "n": len(documents),
                "open": opened * 1e3,
                "first": first * 1e3,
                "ms": medians(contenders, plan.rounds, "timing", len(codes)),
                "recall": recall,
            }
        )
    return rows


def million(plan: Plan) -> list[dict[str, Any]]:
    """Exact and fast search, and exhaustive scans, of many documents."""
    documents = plan.vectors.extended(384, plan.millions)
    folder = plan.folder / f"index-{plan.millions}"
    if not folder.exists():
        _adopt(folder, documents)
    index = Index.open(folder)
    tensor = torch.from_numpy(np.ascontiguousarray(documents))
    one = np.ascontiguousarray(plan.vectors.codes(384, 1)[: plan.queries, 0])
    flat = faiss.IndexFlatIP(384)
    flat.add(documents)
    cells = faiss.index_factory(384, f"IVF{max(1, min(4096, plan.millions // 250))},Flat", faiss.METRIC_INNER_PRODUCT)
    cells.train(documents[:: max(1, plan.millions // 200_000)])
    cells.add(documents)
    theirs = [set(found) for found in flat.search(one, K)[1].tolist()]
    probes = []
    for number in PROBES:
        cells.nprobe = number
        found = [set(found) for found in cells.search(one, K)[1].tolist()]
        took = medians({"IVF": lambda i: cells.search(one[i : i + 1], K)}, plan.rounds, "timing", len(one))
        probes.append({"nprobe": number, "ms": took["IVF"], "recall": _recall(found, theirs)})
    rows = []
    for m in plan.codes:
        codes = plan.vectors.codes(384, m)[: plan.queries]
        tensors = torch.from_numpy(codes)
        contenders: dict[str, Callable[[int], Any]] = {
            "exact": _searching(index, codes),
            SCAN: lambda i, codes=tensors: _scan(tensor, codes[i : i + 1]),
            FLAT: lambda i: _on_one_thread(flat, one[i : i + 1]),
        }
        for fraction in FRACTIONS:
            contenders[f"fast {fraction}"] = _searching(index, codes, mode="fast", share=fraction)
        ms = medians(contenders, plan.rounds, f"m={m}, timing", len(codes))
        exact = index.search(codes, K, temperature=TEMPERATURE)
        truth = [{hit.id for hit in answer} for answer in exact]
        curve = []
        for fraction in tqdm(FRACTIONS, desc=f"m={m}, fractions"):
            answers = index.search(codes, K, mode="fast", share=fraction, temperature=TEMPERATURE)
            curve.append(
                {
                    "share": fraction,
                    "looked at": statistics.mean(answer.looked_at for answer in answers) / len(index),
                    "ms": ms[f"fast {fraction}"],
                    "recall": _recall([{hit.id for hit in answer} for answer in answers], truth),
                    "certified": statistics.mean(answer.certified for answer in answers),
                    "error": statistics.mean(answer.error for answer in answers),
                }
            )
        rows.append(
            {
                "m": m,
                "n": len(index),
                "queries": len(codes),
                "ms": {name: took for name, took in ms.items() if not name.startswith("fast")},
                "curve": curve,
                "probes": probes,
            }
        )
    return rows


def memory(plan: Plan) -> dict[str, Any]:
    """Peak memory of a process that searches, and of processes that add few and many documents."""
    folder = plan.folder / f"index-{plan.millions}"
    if not folder.exists():
        _adopt(folder, plan.vectors.extended(384, plan.millions))
    codes = plan.folder / "index-codes.npy"
    np.save(codes, plan.vectors.codes(384, 16))
    search = _measured(
        f"""
        import numpy as np
        from polyencoders.index import Index
        index = Index.open({str(folder)!r})
        codes = np.load({str(codes)!r})
        for some in (codes[:1], codes[1:33], codes[33:65]):
            index.search(some, 10, temperature={TEMPERATURE})
            index.search(some, 10, mode="fast", temperature={TEMPERATURE})
        """
    )
    import_only = _measured("import polyencoders.index, torch")
    added = {}
    for number in (plan.millions // 20, plan.millions // 5):
        target = plan.folder / f"index-added-{number}"
        shutil.rmtree(target, ignore_errors=True)
        added[str(number)] = _measured(
            f"""
            import numpy as np
            from polyencoders.index import Index
            index = Index.from_vectors({str(target)!r}, np.zeros((1, 384), dtype=np.float32))
            generator = np.random.default_rng(0)
            def encode(texts, advance):
                return generator.normal(size=(len(texts), 384)).astype(np.float32)
            documents = ({{"text": f"document {{i}} " * 20, "year": i}} for i in range({number}))
            index.add(documents, encode=encode)
            """
        )
        shutil.rmtree(target)
    return {"n": plan.millions, "searching": search, "imports alone": import_only, "adding": added}


PARTS: dict[str, Callable[[Plan], Any]] = {"adding": adding, "corpus": corpus, "million": million, "memory": memory}


def _on_one_thread(flat: Any, queries: np.ndarray) -> Any:
    """FAISS flat on one thread, which is faster here than two threads that wait passively."""
    faiss.omp_set_num_threads(1)
    found = flat.search(queries, K)
    faiss.omp_set_num_threads(torch.get_num_threads())
    return found


def _searching(index: Index, codes: np.ndarray, **how: Any) -> Callable[[int], Any]:
    return lambda i: index.search(codes[i : i + 1], K, temperature=TEMPERATURE, **how)


def _adopt(folder: Path, documents: np.ndarray) -> None:
    with tqdm(total=len(documents), desc="making the index") as bar:
        Index.from_vectors(folder, documents, advance=bar.update)


def _scan(documents: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """The best scores of all documents, computed in blocks."""
    best = []
    for start in range(0, len(documents), 1 << 16):
        scores = score_all_pairs(codes, documents[start : start + (1 << 16)], TEMPERATURE)
        best.append(scores.topk(min(K, scores.shape[1])).values)
    return torch.cat(best, dim=1).topk(K).values


def _peers(
    plan: Plan, documents: np.ndarray, one: np.ndarray
) -> tuple[dict[str, Callable[[int], Any]], dict[str, float]]:
    """FAISS and LanceDB over the same documents with the bi-encoder's vector: their searches, and their recall."""
    flat = faiss.IndexFlatIP(384)
    flat.add(documents)
    cells = faiss.index_factory(384, f"IVF{max(1, len(documents) // 120)},Flat", faiss.METRIC_INNER_PRODUCT)
    cells.train(documents)
    cells.add(documents)
    cells.nprobe = 32
    truth = [set(found) for found in flat.search(one, K)[1].tolist()]
    database = plan.folder / "lancedb-peer"
    shutil.rmtree(database, ignore_errors=True)
    rows = pa.table(
        {
            "id": pa.array(range(len(documents))),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(documents.reshape(-1)), 384),
        }
    )
    connection = lancedb.connect(str(database))
    plain = connection.create_table("flat", rows)
    indexed = connection.create_table("cells", rows)
    indexed.create_index(metric="dot", index_type="IVF_FLAT", num_partitions=max(1, len(documents) // 500))

    def lance(table: Any, i: int) -> set[int]:
        found = table.search(one[i]).distance_type("dot").select(["id"]).limit(K)
        return set((found if table is plain else found.nprobes(32)).to_arrow()["id"].to_pylist())

    recall = {
        "FAISS flat": 1.0,
        "FAISS IVF, 32 probes": _recall([set(found) for found in cells.search(one, K)[1].tolist()], truth),
        "LanceDB flat": _recall([lance(plain, i) for i in range(5)], truth[:5]),
        "LanceDB IVF, 32 probes": _recall([lance(indexed, i) for i in range(len(one))], truth),
    }
    return {
        "FAISS flat": lambda i: _on_one_thread(flat, one[i : i + 1]),
        "FAISS IVF, 32 probes": lambda i: cells.search(one[i : i + 1], K),
        "LanceDB flat": lambda i: lance(plain, i),
        "LanceDB IVF, 32 probes": lambda i: lance(indexed, i),
    }, recall


def _recall(found: list[set[Any]], truth: list[set[Any]]) -> float:
    return sum(len(a & b) for a, b in zip(found, truth, strict=True)) / sum(len(b) for b in truth)


def _measured(code: str) -> dict[str, float]:
    """Peak memory of a process that runs the code, in MB: all of it, and without mapped files."""
    watch = (
        "\nimport threading, time\npeak = [0.0]\n"
        "def kilobytes(name):\n"
        "    with open('/proc/self/status') as file:\n"
        "        return next(int(line.split()[1]) for line in file if line.startswith(name))\n"
        "def watch():\n"
        "    while True:\n"
        "        peak[0] = max(peak[0], kilobytes('RssAnon'))\n"
        "        time.sleep(0.01)\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
    )
    lines = watch + textwrap.dedent(code) + "\nprint(kilobytes('VmHWM') / 1e3, peak[0] / 1e3)\n"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    total, own = done.stdout.split()[-2:]
    return {"peak MB": float(total), "of its own": float(own)}


def _backbone() -> str:
    from polyencoders.cli.architectures import resolve_backbone

    return resolve_backbone(BACKBONE)


def _sentence_transformer() -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(_backbone(), device="cpu")


if __name__ == "__main__":
    main()
