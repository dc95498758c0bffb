"""The models in `mteb` as they are: it takes both sides of a model, and its own score."""

import numpy as np
import pytest

from polyencoders import BiEncoder, PolyEncoder
from polyencoders.data import Retrieval
from polyencoders.evaluation import evaluate, judged_corpus

ITEMS = range(12)
CORPUS = {f"d{i}": f"Send item {i} back." for i in ITEMS}
QUERIES = {f"q{i}": f"How do I return item {i}?" for i in ITEMS}
QRELS = {f"q{i}": {f"d{i}": 2, f"d{(i + 1) % 12}": 1} for i in ITEMS}


@pytest.fixture(params=["bi", "poly"])
def model(request, backbone):
    return BiEncoder(backbone) if request.param == "bi" else PolyEncoder(backbone, m=4, codes="first")


def ours(model):
    report = evaluate(model, judged_corpus(Retrieval(CORPUS, QUERIES, {"test": QRELS}), "test"), ["nDCG@10"])
    return report.metrics["nDCG@10"].mean


def test_what_mteb_asks_of_a_model(model):
    """What its wrapper of sentence-transformers' models calls, and how it ranks with what comes back."""
    from ir_measures import calc_aggregate, nDCG

    queries = model.encode_query(list(QUERIES.values()), prompt=None, batch_size=5, show_progress_bar=False)
    documents = model.encode_document(list(CORPUS.values()), prompt=None, batch_size=5, show_progress_bar=False)
    scores = np.asarray(model.similarity(queries, documents))
    run = {query: dict(zip(CORPUS, map(float, row), strict=True)) for query, row in zip(QUERIES, scores, strict=True)}
    assert calc_aggregate([nDCG @ 10], QRELS, run)[nDCG @ 10] == pytest.approx(ours(model), abs=1e-6)
    assert model.similarity_fn_name in ("cosine", "dot", "MaxSim", "euclidean", "manhattan", "custom")


def test_a_task_of_mteb(model):
    mteb = pytest.importorskip("mteb", reason="needs mteb")
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class Items(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="Items",
            description="Items to return.",
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            dataset={"path": "local", "revision": "1"},
            **dict.fromkeys(["reference", "date", "domains", "task_subtypes", "license", "annotations_creators"]),
            **dict.fromkeys(["dialect", "sample_creation"]),
            bibtex_citation="",
        )

        def load_data(self, **options):
            corpus = [{"id": key, "title": "", "text": text} for key, text in CORPUS.items()]
            queries = [{"id": key, "text": text} for key, text in QUERIES.items()]
            tables = {"corpus": Dataset.from_list(corpus), "queries": Dataset.from_list(queries)}
            self.dataset = {"default": {"test": {**tables, "relevant_docs": QRELS, "top_ranked": None}}}
            self.data_loaded = True

    result = mteb.evaluate(model, Items(), cache=None)
    assert result[0].scores["test"][0]["ndcg_at_10"] == pytest.approx(ours(model), abs=1e-4)
