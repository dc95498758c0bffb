"""The time of a one-way cross-encoder beside one that reads both ways, and beside the bi-encoder on its backbone.

    python benchmarks/one_way.py            # a quarter of an hour on one core
    python benchmarks/one_way.py --quick    # under a minute, few candidates; shows that it runs

A query of 120 tokens and replies of 20, of words drawn by seed 0, on all-MiniLM-L6-v2 as it comes: what a model has
learnt changes no time. One query at a time, one thread, from texts to scores: in PyTorch, and exported in float32 and
int8. Writes benchmarks/results/one_way.{json,md}.
"""

from __future__ import annotations

from report import Report, parser, table

# isort: split
import random
import tempfile
from pathlib import Path
from typing import Any

import torch

from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model
from polyencoders.cli.display import quieten
from polyencoders.encoders import load
from polyencoders.export import export_model
from polyencoders.scoring import score_all_pairs
from timing import medians

QUERY, REPLY = 120, 20
"""Tokens of a query and of a reply, special tokens included."""
CANDIDATES = (4, 100, 1000)
ENGINES = ("PyTorch", "exported, float32", "exported, int8")
CONTENDERS = {
    "two-way": "cross-warm",
    "one-way": "cross-one-way",
    "bi-encoder": "bi",
}
STORED = "bi-encoder, vectors stored"


def main() -> None:
    arguments = parser(__doc__).parse_args()
    quieten()
    torch.set_num_threads(1)
    candidates, rounds = ((4, 20), 1) if arguments.quick else (CANDIDATES, 20)
    built = {name: build_model(architecture, DEFAULT_BACKBONE, {}) for name, architecture in CONTENDERS.items()}
    query, *replies = texts(built["bi-encoder"].tokenizer, max(candidates))
    report = Report("one_way", ("torch", "transformers", "onnxruntime", "numpy"), arguments.quick)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for engine in ENGINES:
            models: dict[str, Any] = built
            if engine != "PyTorch":
                precision = engine.rpartition(" ")[2]
                folder = Path(scratch) / precision
                models = {name: exported(model, folder / name, precision) for name, model in built.items()}
            for number in candidates:
                milliseconds = measured(models, query, replies[:number], rounds, f"{engine}, {number}")
                rows.append({"engine": engine, "candidates": number, "milliseconds": milliseconds})
                report.keep({"rows": rows})
    about = f"A query of {QUERY} tokens and replies of {REPLY}, one thread. Milliseconds a query, from texts to scores."
    summary = {f"{row['engine']}, {row['candidates']}": of_two_way(row) for row in rows}
    report.publish("A query read once for all its candidates", [about, "", *as_table(rows)], summary)


def texts(tokenizer: Any, number: int) -> list[str]:
    """A query, and so many replies, all different: words that are one token each."""
    words = sorted(word for word in tokenizer.get_vocab() if word.isalpha() and word.isascii() and len(word) > 2)
    drawn = random.Random(0)
    made = [" ".join(drawn.choices(words, k=tokens - 2)) for tokens in (QUERY, *[REPLY] * number)]
    assert [len(ids) for ids in tokenizer(made)["input_ids"]] == [QUERY, *[REPLY] * number]
    return made


def exported(model: Any, folder: Path, precision: str) -> Any:
    """A model's export."""
    folder.parent.mkdir(exist_ok=True)
    return load(export_model(model, folder, precision, document_precision=precision).path)


def measured(models: dict[str, Any], query: str, replies: list[str], rounds: int, what: str) -> dict[str, float]:
    """The median milliseconds of each model, and of the bi-encoder where the replies' vectors are there before."""
    bi = models["bi-encoder"]
    stored = bi.encode_documents(replies)
    contenders = {name: lambda _, model=model: model.score_lists([query], [replies]) for name, model in models.items()}
    contenders[STORED] = lambda _: score_all_pairs(bi.encode_queries([query]), stored, bi.temperature)
    return medians(contenders, rounds, what)


def of_two_way(row: dict[str, Any]) -> float:
    """The time of the one-way model, where that of the two-way one is 1."""
    return round(row["milliseconds"]["one-way"] / row["milliseconds"]["two-way"], 3)


def as_table(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each engine and number of candidates."""
    names = (*CONTENDERS, STORED)
    cells = []
    for row in rows:
        times = [f"{row['milliseconds'][name]:,.1f}" for name in names]
        cells.append([row["engine"], f"{row['candidates']:,}", *times, of_two_way(row)])
    return table(("", "candidates", *names, "one-way, two-way = 1"), cells)


if __name__ == "__main__":
    main()
