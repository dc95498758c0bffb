"""`polyencoders evaluate`: how well a model ranks, with intervals."""

import json
import random
import statistics
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from typer import Option

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import console
from polyencoders.cli.options import (
    WITH_CHUNKS,
    Candidates,
    Chunks,
    ColumnsOf,
    Data,
    Model,
    OnError,
    Queries,
    Rerank,
    RerankTop,
    RerankWeight,
    Seed,
    UseWords,
    WordsLanguage,
    WordsWeight,
    read_data,
    reranker_of,
    words_of,
)
from polyencoders.errors import DataError
from polyencoders.files import whole_file

if TYPE_CHECKING:
    from polyencoders.data import Example
    from polyencoders.evaluation import Task

PROTOCOLS = ("auto", "given", "sampled", "corpus")


def evaluate(
    model: Model,
    data: Data,
    columns: ColumnsOf = None,
    protocol: Annotated[
        str,
        Option(
            help="`given`: the data's own `candidates`; `sampled`: the right answer among random others; `corpus`: "
            "among all; `auto`: given where all examples have them, the corpus where the set has one, else sampled."
        ),
    ] = "auto",
    candidates: Candidates = 20,
    queries: Queries = 1000,
    measure: Annotated[
        list[str] | None,
        Option(
            help="`R@k` (recall: the part of a query's right answers in the first k), `Success@k` (whether one of them "
            "is there), `MRR`, `MAP`, `nDCG` (by grades, where the data has them), the last three also `@k`. Can be "
            "given several times. [default: R@1, MRR]"
        ),
    ] = None,
    chunks: Chunks = False,
    words: UseWords = False,
    words_weight: WordsWeight = None,
    words_language: WordsLanguage = "none",
    rerank: Rerank = None,
    rerank_top: RerankTop = None,
    rerank_weight: RerankWeight = None,
    seed: Seed = 0,
    on_error: OnError = "stop",
    output: Annotated[Path | None, Option(help="Also write the report to this file, as JSON.")] = None,
    card: Annotated[bool, Option("--card", help="Also put the results on the model's card, README.md.")] = False,
) -> None:
    """Measure how well a model ranks, with 95% intervals. Ties count against it.

    Example:

        polyencoders evaluate models/mine --data held-out.jsonl --rerank cross-encoder/ms-marco-MiniLM-L-12-v2
    """
    from polyencoders import evaluation

    source = read_data(data, columns, on_error)
    if source.judged is not None and protocol in ("auto", "corpus"):
        task: Task = evaluation.judged_corpus(source.judged, source.judged.reported, queries, seed)
    else:
        examples = source.examples_of("test")
        if queries < len(examples):
            examples = random.Random(seed).sample(examples, queries)
        task = task_of(examples, source.corpus, protocol, candidates, seed)

    from polyencoders.encoders import Reranker, load
    from polyencoders.encoders.cut import said_of_documents

    loaded = load(resolve_backbone(model))
    reads = reranker_of(rerank)
    reranker = Reranker(reads).but(rerank_top, rerank_weight) if reads else None
    asked = words_of(words, words_weight, words_language)
    names = measure or ("R@1", "MRR")
    report = evaluation.evaluate(
        loaded, task, names, show_progress_bar=True, reranker=reranker, words=asked, passages=chunks
    )
    console.print(report.table())
    ranked = list(chain(*task.documents[:50])) if isinstance(task, evaluation.CandidateTask) else task.corpus
    for line in said_of_documents(loaded, ranked, None if chunks else WITH_CHUNKS):
        console.print(escape(line), highlight=False, soft_wrap=True)
    several = statistics.mean(map(len, task.relevant))
    if several > 1 and any(name.startswith("R@") for name in names):
        console.print(
            f"A query has {several:.1f} right answers on average. R@k is recall, the part of them in the first k; "
            "Success@k counts the queries with one there.",
            highlight=False,
            soft_wrap=True,
        )
    if reranker is not None:
        console.print(f"{rerank} has read the best {reranker.top} of each query.", highlight=False, soft_wrap=True)
    if output is not None:
        with whole_file(output) as scratch:
            scratch.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    if card:
        from polyencoders.evaluation.card import put_results, shown_name

        put_results(model, shown_name(data), report)


def task_of(examples: "list[Example]", corpus: Sequence[str], protocol: str, candidates: int, seed: int) -> "Task":
    """What each query ranks: its own list, the set's one list for all, or what was asked for."""
    from polyencoders import evaluation
    from polyencoders.evaluation.tasks import most_candidates

    if protocol not in PROTOCOLS:
        raise DataError(f"no protocol {protocol!r}: there are {', '.join(PROTOCOLS)}")
    listed = all(example.candidates for example in examples)
    if protocol == "auto":
        protocol = "given" if listed else "corpus" if corpus else "sampled"
        if protocol == "sampled" and 2 <= (most := most_candidates(examples)) < candidates:
            console.print(
                f"The documents are few: each query ranks {most}, its answer and all wrong ones, not {candidates}.",
                highlight=False,
                soft_wrap=True,
            )
            candidates = most
    if protocol == "sampled":
        return evaluation.sampled_candidates(examples, candidates, seed)
    if protocol == "given":
        if corpus and not listed:
            return evaluation.shared_candidates(examples, corpus)
        return evaluation.given_candidates(examples)
    return evaluation.given_corpus(examples, corpus) if corpus else evaluation.whole_corpus(examples)
