"""What each architecture of `quality.py` costs: milliseconds a query against 1,000 documents, and bytes a document.

    python benchmarks/quality_costs.py            # some minutes; two threads at most
    python benchmarks/quality_costs.py --quick    # under a minute, 100 documents; writes nothing

The models are untrained: their weights do not matter here. Documents are from the built-in conversations, and encoded
beforehand except by cross-encoders. Models take turns; figures are medians of nine rounds. Writes
benchmarks/results/quality_costs.{json,md}, which `quality.py` shows with its tables; the last line printed is the
summary as one JSON object.
"""

from __future__ import annotations

from report import Report, parser, table

# isort: split
import statistics
import time
from typing import Any

import torch

from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model
from polyencoders.cli.display import quieten
from polyencoders.cli.latency import measure_latency
from polyencoders.data import load_examples
from quality_maxsim import MaxSim
from quality_methods import GROUPS, METHODS, UNTRAINED, WARM
from quality_tasks import some

LENGTH = 128
HALF = 2
"""Bytes of a number in half precision, in which vectors are stored."""


def main() -> None:
    arguments = parser(__doc__).parse_args()
    quieten()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    number, rounds = (100, 2) if arguments.quick else (1000, 9)
    names = [name for name in GROUPS["main"] if name not in (*UNTRAINED, WARM)]  # one cross-warm is as fast as another
    if arguments.quick:
        names = ["bi", "poly-4", "cross", "cross-warm", "maxsim"]
    test = load_examples("chitchat").test
    documents = list(dict.fromkeys(text for example in some(test, 3 * number) for text in example.positives))[:number]
    queries = [example.query for example in some(test, rounds + 1)]
    cut = {"query_length": LENGTH, "document_length": LENGTH}
    models = {
        name: build_model(METHODS[name].architecture, DEFAULT_BACKBONE, {**METHODS[name].settings, **cut})
        for name in names
        if name not in ("cross", "maxsim")
    }
    models["cross"] = build_model("cross", DEFAULT_BACKBONE, {})
    measured = measure_latency(models, queries, documents, [number], rounds)
    rows: dict[str, Any] = {
        name: {"encoding": one[number].encoding, "scoring": one[number].scoring} for name, one in measured.items()
    }
    for name, model in models.items():
        rows[name]["bytes"] = HALF * model.get_embedding_dimension() if hasattr(model, "encode_document") else 0
    rows["maxsim"] = maxsim(queries, documents, rounds)
    rows = {name: rows[name] for name in names}
    lines = costs(rows, number)
    report = Report("quality_costs", ("torch", "sentence-transformers", "transformers"), arguments.quick)
    report.keep({"documents": number, "rows": rows, "table": lines})
    report.publish("What each architecture costs", lines, rows)


def maxsim(queries: list[Any], documents: list[str], rounds: int) -> dict[str, float]:
    """The time to encode a query, and of its MaxSim with all documents, whose token vectors are padded beforehand."""
    scorer = MaxSim(DEFAULT_BACKBONE, LENGTH, None)
    vectors = scorer.model.encode_document(documents, show_progress_bar=False)
    padded = torch.nn.utils.rnn.pad_sequence(list(vectors), batch_first=True)
    encoding, scoring = [], []
    for number in range(rounds + 1):
        started = time.perf_counter()
        query = scorer.model.encode_query([scorer.text(queries[number % len(queries)])], show_progress_bar=False)
        encoded = time.perf_counter()
        torch.topk(scorer.model.similarity(query, padded)[0], 10)
        scoring.append(1000 * (time.perf_counter() - encoded))
        encoding.append(1000 * (encoded - started))
    stored = HALF * scorer.dimensions * statistics.mean(len(one) for one in vectors)
    return {"encoding": statistics.median(encoding[1:]), "scoring": statistics.median(scoring[1:]), "bytes": stored}


def costs(rows: dict[str, Any], number: int) -> list[str]:
    cells = []
    for name, row in rows.items():
        encoding = f"{row['encoding']:.1f}" if row["encoding"] else "–"
        fraction = f"1/{rows['cross']['scoring'] / (row['encoding'] + row['scoring']):,.0f}"
        stored = f"{row['bytes']:,.0f}" if row["bytes"] else "0: the text alone"
        cells.append((name, encoding, f"{row['scoring']:,.2f}", "1" if name == "cross" else fraction, stored))
    header = ("", "ms to encode a query", f"ms to score {number:,} documents", "of the cross-encoder's time")
    return table((*header, "bytes a document (half precision)"), cells)


if __name__ == "__main__":
    main()
