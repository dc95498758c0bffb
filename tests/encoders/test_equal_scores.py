"""Equal documents get equal scores and keep the order given, wherever they stand and whatever the processor can do."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from polyencoders.encoders import CachedRanking
from polyencoders.evaluation import CandidateTask, CorpusTask
from polyencoders.evaluation.ranking import rank_task

TEXTS = ["", "x", "In Oslo.", "I am a nurse.", "Since 1998, or so.", "Pancakes, with syrup. " * 3, "the hills " * 9]
QUERIES = ["What do you eat?", ["Hi!", "Hello, who are you?", "And where do you live?"], "x"]
BUILT = ["bi", "bi-attention", "poly-learnt", "poly-first", "poly-last", "poly-last-and-first", "cross", "cross-warm",
         "cross-one-way", "arc-ii"]  # fmt: skip
PROCESSORS = {
    # What PyTorch computes with, and the nearest of what NumPy's own library of matrix products does.
    "default": {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Prescott"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "OPENBLAS_CORETYPE": "SkylakeX"},
}
# A path whose instructions the processor has not is not slower there but ends the process.
NEEDED = {"default": (), "avx2": ("avx2", "fma3"), "avx512": ("avx512_f", "avx512_bw", "avx512_dq", "avx512_vl")}


def check_equal(scores, texts):
    """Equal texts have the very same score."""
    first = {}
    for score, text in zip(np.asarray(scores).tolist(), texts, strict=True):
        assert score == first.setdefault(text, score), (text, score, first[text])


def check_hits(hits, texts):
    """Hits of equal texts have the same score; equal scores keep the order given."""
    hits = [(hit["score"], hit["corpus_id"]) for hit in hits]
    assert hits == sorted(hits, key=lambda hit: (-hit[0], hit[1]))
    assert [place for _, place in sorted(hits, key=lambda hit: hit[1])] == list(range(len(texts)))
    check_equal([score for score, _ in sorted(hits, key=lambda hit: hit[1])], texts)


def check_model(model, texts):
    """Every path from a query and texts to scores and hits."""
    ranking = CachedRanking(model)
    lists = model.score_lists(QUERIES, [texts, texts[::-1], texts])
    check_equal(lists[1], texts[::-1])
    for query, scores in zip(QUERIES[::2], lists[::2], strict=True):
        check_equal(scores, texts)
        check_hits(model.rank(query, texts), texts)
        for _ in ("encoded", "from the cache"):
            check_hits(ranking.rank(query, texts), texts)
        check_equal(model.predict([(query, text) for text in texts]), texts)
    check_evaluation(model, texts, CandidateTask, [texts])
    if hasattr(model, "encode_documents"):
        check_evaluation(model, texts, CorpusTask, texts)


def check_evaluation(model, texts, task, documents):
    """The rank of a right answer, ties against it, does not depend on which of several equal texts it is."""
    ranks = [rank_task(model, task(QUERIES[:1], documents, [[place]]))[0].tolist() for place in range(len(texts))]
    check_equal([rank for [rank] in ranks], texts)


def check_index(model, texts, path):
    """Equal texts in an index, added at different times: equal scores, sorted by id."""
    from polyencoders.index import Index

    texts = list(filter(None, texts))  # an index takes no empty text
    index = Index.create(path, model)
    half = len(texts) // 2
    for part in (range(half), range(half, len(texts))):
        index.add([{"id": f"{place:03d}", "text": texts[place]} for place in part])
    for kernel in ("", "portable", "numpy"):
        os.environ["POLYENCODERS_KERNEL"] = kernel
        for mode in ("exact", "fast"):
            for answer in index.search(QUERIES, k=len(texts), mode=mode):
                check_hits([{"score": hit.score, "corpus_id": int(hit.id)} for hit in answer], texts)


def check_all(folder, models):
    """What a process of another processor's runs: every model that was saved in the folder."""
    import polyencoders

    chance = random.Random(0)
    for number, name in enumerate(models):
        model = polyencoders.load(f"{folder}/{name}")
        check_model(model, [chance.choice(TEXTS) for _ in range(37)])
        if hasattr(model, "encode_documents"):
            check_index(model, [chance.choice(TEXTS) for _ in range(60)], f"{folder}/index-{os.getpid()}-{number}")


@pytest.fixture(scope="session")
def saved(built, tmp_path_factory):
    """A folder of every model, saved."""
    folder = tmp_path_factory.mktemp("models")
    for name in BUILT:
        built(name).save(folder / name)
    return folder


@pytest.mark.parametrize("processor", PROCESSORS)
def test_equal_documents_have_equal_scores_on_every_processor(saved, processor):
    there = getattr(torch.cpu, "get_capabilities", dict)()
    if missing := [name for name in NEEDED[processor] if not there.get(name, True)]:
        pytest.skip(f"this processor has no {', '.join(missing)}")
    code = "import json, sys, test_equal_scores as here; here.check_all(sys.argv[1], json.loads(sys.argv[2]))"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, **PROCESSORS[processor]}
    command = [sys.executable, "-c", code, str(saved), json.dumps(BUILT)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", BUILT)
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=40))
@example(texts=["In Oslo."] * 33)
def test_documents_repeated_at_random_places(built, name, texts):
    check_model(built(name), texts)
