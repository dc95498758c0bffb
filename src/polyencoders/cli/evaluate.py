"""`polyencoders evaluate`: how well a model ranks, with intervals.

Knows protocols and readers; nothing of how a model works.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import console, quieten
from polyencoders.data import Example, read_source
from polyencoders.errors import DataError
from polyencoders.evaluation import (
    evaluate,
    given_candidates,
    given_corpus,
    sampled_candidates,
    shared_candidates,
    whole_corpus,
)
from polyencoders.evaluation.tasks import Task
from polyencoders.files import whole_file
from polyencoders.models.loading import load_model

PROTOCOLS = ("auto", "given", "sampled", "corpus")


def run(
    model: str,
    data: str,
    protocol: str,
    candidates: int,
    queries: int,
    measures: Sequence[str],
    seed: int,
    output: Path | None,
) -> None:
    """Evaluate a saved model, or a backbone as it comes, and print the report."""
    quieten()
    source = read_source(data)
    examples = source.examples_of("test")
    if queries < len(examples):
        examples = random.Random(seed).sample(examples, queries)
    task = _task(examples, source.corpus, protocol, candidates, seed)
    loaded = load_model(resolve_backbone(model))
    report = evaluate(loaded, task, measures, show_progress_bar=True)
    console.print(report.table())
    if output is not None:
        with whole_file(output) as scratch:
            scratch.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")


def _task(examples: list[Example], corpus: Sequence[str], protocol: str, candidates: int, seed: int) -> Task:
    """What is ranked: the examples' own lists, the set's one list for all, or what was asked for."""
    if protocol not in PROTOCOLS:
        raise DataError(f"no protocol {protocol!r}: there are {', '.join(PROTOCOLS)}")
    listed = all(example.candidates for example in examples)
    if protocol == "auto":
        protocol = "given" if listed else "corpus" if corpus else "sampled"
    if protocol == "given":
        return shared_candidates(examples, corpus) if corpus and not listed else given_candidates(examples)
    if protocol == "corpus":
        return given_corpus(examples, corpus) if corpus else whole_corpus(examples)
    return sampled_candidates(examples, candidates, seed)
