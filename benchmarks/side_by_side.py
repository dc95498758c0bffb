"""The same models on the same sets, scored by `polyencoders evaluate`, mteb and trec_eval. All three should agree.

    python benchmarks/side_by_side.py            # SciFact, WikiQA and Banking77: ten minutes
    python benchmarks/side_by_side.py --quick    # 200 queries of Banking77, one model; writes nothing

The models are all-MiniLM-L6-v2 as it comes, and an untrained poly-encoder on it whose codes are the first four outputs.
The first is sentence-transformers' own class for mteb and trec_eval. mteb encodes and ranks by itself; trec_eval
(pytrec_eval) measures the scores that the model's own `similarity` gives. WikiQA and Banking77 are read here, and not
by polyencoders. Without mteb (`pip install mteb`) its column is empty. Published are: for SciFact, MTEB's figure of the
same model; for WikiQA, the best of Yang et al. (2015), by another model.
"""

from __future__ import annotations

from report import Report, parser, put, table

# isort: split
import csv
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from polyencoders import PolyEncoder
from polyencoders.cli.architectures import DEFAULT_BACKBONE, resolve_backbone
from polyencoders.cli.display import quieten
from polyencoders.data import read_scifact
from quality_tasks import RANKINGS, add_data_options, load

Texts = dict[str, str]  # By id
MODELS = ("all-MiniLM-L6-v2", "poly-first-4")


class Judged(NamedTuple):
    """A set by its ids."""

    queries: Texts
    documents: Texts
    qrels: dict[str, dict[str, int]]
    lists: dict[str, list[str]] | None = None  # What each query ranks; None: all documents


class Measure(NamedTuple):
    """A measure by its names."""

    ours: str
    mteb: str
    trec_eval: str


MEASURES = {
    one.ours: one
    for one in (
        Measure("nDCG@10", "ndcg_at_10", "ndcg_cut_10"),
        Measure("MAP", "map_at_1000", "map"),
        Measure("MRR", "mrr_at_1000", "recip_rank"),
        Measure("R@1", "recall_at_1", "recall_1"),
        Measure("R@10", "recall_at_10", "recall_10"),
    )
}
SETS = {"scifact": ("nDCG@10", "R@10", "MAP"), "wikiqa": ("MAP", "MRR"), "banking77": ("R@1", "MRR")}
PUBLISHED = {
    ("scifact", "all-MiniLM-L6-v2", "nDCG@10"): "0.645 (MTEB)",
    ("wikiqa", "all-MiniLM-L6-v2", "MAP"): "0.652 (a CNN)",
    ("wikiqa", "all-MiniLM-L6-v2", "MRR"): "0.665 (a CNN)",
}
DEPTH = 1000  # What trec_eval reads of a ranking
HAS_MTEB = importlib.util.find_spec("mteb") is not None


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="others stay as they were")
    command.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add_data_options(command)
    arguments = command.parse_args()
    quieten()
    packages = ["sentence-transformers", "pytrec_eval-terrier", *["mteb"] * HAS_MTEB]
    report = Report("side_by_side", packages, arguments.quick)
    plain = resolve_backbone(DEFAULT_BACKBONE)
    with tempfile.TemporaryDirectory() as folder:
        PolyEncoder(plain, m=4, codes="first").save_pretrained(f"{folder}/poly")
        models = {
            "all-MiniLM-L6-v2": (plain, SentenceTransformer(plain)),
            "poly-first-4": (f"{folder}/poly", PolyEncoder(f"{folder}/poly")),
        }
        if arguments.quick:
            arguments.sets, arguments.models = ["banking77"], MODELS[:1]
        for name in tqdm(arguments.sets, desc="side by side"):
            load(name, arguments.data, arguments.unpacked)
            judged, source = read(name, arguments.unpacked), source_of(name, arguments.unpacked)
            if arguments.quick:
                judged, source = first(judged, 200, Path(folder))
            rows = [row for label in arguments.models for row in scored(name, label, *models[label], judged, source)]
            report.keep({"sets": {**report.results.get("sets", {}), name: rows}})
    rows = [row for name in SETS for row in report.results["sets"].get(name, [])]
    summary = {"largest difference": max(map(difference, rows)), "rows": rows}
    shown = list(lines(rows))

    def blocks() -> None:
        made = "Made by [`benchmarks/side_by_side.py`](../benchmarks/side_by_side.py) ([with the machine]"
        put("side-by-side", [*shown, made + "(../benchmarks/results/side_by_side.md))."], "docs/data.md")

    report.publish("The same models, scored three ways", shown, summary, blocks=blocks)


def scored(name: str, label: str, path: str, model: Any, judged: Judged, source: str) -> Iterator[dict[str, Any]]:
    """A row for each measure of a model on a set."""
    found = {
        "polyencoders": by_command(path, source, SETS[name]),
        "mteb": by_mteb(model, judged, name, SETS[name]) if HAS_MTEB else {},
        "trec_eval": by_trec_eval(model, judged, SETS[name]),
    }
    for measure in SETS[name]:
        values = {way: by_measure.get(measure) for way, by_measure in found.items()}
        row = {"set": name, "model": label, "queries": len(judged.queries), "measure": measure, **values}
        yield row | {"published": PUBLISHED.get((name, label, measure), "–")}


def read(name: str, unpacked: Path) -> Judged:
    """Read the test side of a set."""
    if name == "scifact":
        found = read_scifact(unpacked / RANKINGS[name].source.partition(":")[2])
        qrels = found.qrels["test"]
        return Judged({query: found.queries[query] for query in qrels}, found.corpus, qrels)
    return read_wikiqa(unpacked) if name == "wikiqa" else read_banking77(unpacked)


def read_wikiqa(unpacked: Path) -> Judged:
    """Each row is a document, whose id is its number; questions that no sentence answers are left out."""
    folder = unpacked / "WikiQA" / "test"
    columns = ((folder / name).read_text("utf-8").splitlines() for name in ("id.txt", "a.toks", "b.toks", "sim.txt"))
    queries, documents, qrels = {}, {}, {}
    for number, (query, question, sentence, label) in enumerate(zip(*columns, strict=True)):
        queries[query] = question.strip()
        documents[f"d{number}"] = sentence.strip()
        qrels.setdefault(query, {})[f"d{number}"] = int(label)
    answered = {query: judged for query, judged in qrels.items() if any(judged.values())}
    return Judged(
        {query: queries[query] for query in answered}, documents, answered, {q: list(d) for q, d in answered.items()}
    )


def read_banking77(unpacked: Path) -> Judged:
    """The documents are the names of the classes."""
    folder = unpacked / "banking77" / "banking_data"
    with (folder / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    classes = sorted(json.loads((folder / "categories.json").read_text("utf-8")))
    documents = {name: " ".join(name.replace("_", " ").split()) for name in classes}
    queries = {f"q{number}": text for number, (text, _) in enumerate(rows)}
    return Judged(queries, documents, {f"q{number}": {name: 1} for number, (_, name) in enumerate(rows)})


def first(judged: Judged, number: int, folder: Path) -> tuple[Judged, str]:
    """The first queries of a set, also as a BEIR folder."""
    queries = dict(list(judged.queries.items())[:number])
    for name, texts in (("queries", queries), ("corpus", judged.documents)):
        written = (json.dumps({"_id": id, "text": text}) + "\n" for id, text in texts.items())
        (folder / f"{name}.jsonl").write_text("".join(written), encoding="utf-8")
    (folder / "qrels").mkdir(exist_ok=True)
    qrels = {query: judged.qrels[query] for query in queries}
    judgements = (f"{query}\t{id}\t{grade}\n" for query, found in qrels.items() for id, grade in found.items())
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judgements), encoding="utf-8")
    return judged._replace(queries=queries, qrels=qrels), f"beir:{folder}"


def source_of(name: str, unpacked: Path) -> str:
    """What `--data` names."""
    kind, _, path = RANKINGS[name].source.partition(":")
    return f"{kind}:{unpacked / path}"


def by_command(model: str, source: str, measures: tuple[str, ...]) -> dict[str, float]:
    """What `polyencoders evaluate` reports of all queries."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "report.json"
        asked = [option for measure in measures for option in ("--measure", measure)]
        command = ["evaluate", model, "--data", source, "--queries", "10000", "--output", str(output), *asked]
        subprocess.run([sys.executable, "-m", "polyencoders", *command], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(output.read_text("utf-8"))["metrics"]
    return {name.partition("/")[0]: interval["mean"] for name, interval in found.items()}


def by_trec_eval(model: Any, judged: Judged, measures: tuple[str, ...]) -> dict[str, float]:
    """What trec_eval makes of the model's own scores."""
    import pytrec_eval

    queries, documents = list(judged.queries), list(judged.documents)
    codes = model.encode_query(list(judged.queries.values()), convert_to_tensor=True)
    vectors = model.encode_document(list(judged.documents.values()), convert_to_tensor=True)
    place = {document: number for number, document in enumerate(documents)}
    run = {}
    for number, query in enumerate(queries):
        scores = model.similarity(codes[number : number + 1], vectors)[0].cpu().numpy()
        ranked = judged.lists[query] if judged.lists is not None else documents
        own = scores[[place[document] for document in ranked]]
        run[query] = {ranked[best]: float(own[best]) for best in np.argsort(-own, kind="stable")[:DEPTH]}
    names = {MEASURES[measure].trec_eval for measure in measures}
    asked = {name if not name[-1].isdigit() else ".".join(name.rsplit("_", 1)) for name in names}
    values = pytrec_eval.RelevanceEvaluator(judged.qrels, asked).evaluate(run)
    return {one: float(np.mean([v[MEASURES[one].trec_eval] for v in values.values()])) for one in measures}


def by_mteb(model: Any, judged: Judged, name: str, measures: tuple[str, ...]) -> dict[str, float]:
    """What mteb reports of a task made of a set."""
    import mteb
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    unknown = ("reference", "date", "domains", "task_subtypes", "license", "annotations_creators", "dialect")

    class Local(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"Local{name.title()}",
            description=name,
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            dataset={"path": "local", "revision": "1"},
            bibtex_citation="",
            sample_creation=None,
            **dict.fromkeys(unknown),
        )

        def load_data(self, **options: Any) -> None:
            corpus = [{"id": id, "title": "", "text": text} for id, text in judged.documents.items()]
            queries = [{"id": id, "text": text} for id, text in judged.queries.items()]
            tables = {"corpus": Dataset.from_list(corpus), "queries": Dataset.from_list(queries)}
            split = {**tables, "relevant_docs": dict(judged.qrels), "top_ranked": judged.lists}
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    (scores,) = mteb.evaluate(model, Local(), cache=None)[0].scores["test"]
    return {measure: float(scores[MEASURES[measure].mteb]) for measure in measures}


def difference(row: dict[str, Any]) -> float:
    """The largest between two of the three."""
    values = [row[way] for way in ("polyencoders", "mteb", "trec_eval") if row[way] is not None]
    return float(max(values) - min(values))


def lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The report, in Markdown."""
    header = ("set (test queries)", "model", "measure", "`polyencoders evaluate`", "mteb", "trec_eval", "published")
    yield from table(
        header,
        (
            (
                f"{row['set']} ({row['queries']:,})",
                row["model"],
                row["measure"],
                *(f"{row[way]:.4f}" if row[way] is not None else "–" for way in ("polyencoders", "mteb", "trec_eval")),
                row["published"],
            )
            for row in rows
        ),
    )


if __name__ == "__main__":
    main()
