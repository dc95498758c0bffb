"""The clients that teams have already, pointed at this server: what changes for them is one URL."""

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

QUERY = "Is there any tea in the garden?"


@pytest.fixture(scope="module")
def texts(replies):
    return [reply["text"] for reply in replies[:20]]


@pytest.fixture(scope="module")
def best(poly, texts):
    """Places of the five best, and their scores as Cohere's clients see them."""
    scores = poly.score_lists([QUERY], [texts])[0]
    order = np.argsort(-scores, kind="stable")[:5].tolist()
    return order, [(1 + scores[place]) / 2 for place in order]


@pytest.mark.parametrize("version", ["Client", "ClientV2"])
def test_cohere(reranking, texts, best, version):
    cohere = pytest.importorskip("cohere")
    client = getattr(cohere, version)(api_key="none", base_url=reranking.url)
    answer = client.rerank(model="rerank-v3.5", query=QUERY, documents=texts, top_n=5)
    assert [one.index for one in answer.results] == best[0]
    np.testing.assert_allclose([one.relevance_score for one in answer.results], best[1], atol=1e-5)
    with pytest.raises(cohere.UnprocessableEntityError, match="documents"):
        client.rerank(model="rerank-v3.5", query=QUERY, documents=[])


def test_cohere_async_and_its_key(serve, texts, best):
    cohere = pytest.importorskip("cohere")
    server = serve(key="right", bf16=False)
    client = cohere.AsyncClientV2(api_key="right", base_url=server.url)
    answer = asyncio.run(client.rerank(model="any", query=QUERY, documents=texts, top_n=5))
    assert [one.index for one in answer.results] == best[0]
    with pytest.raises(cohere.UnauthorizedError):
        cohere.ClientV2(api_key="wrong", base_url=server.url).rerank(model="any", query=QUERY, documents=texts)


def test_langchain(reranking, texts, best):
    langchain = pytest.importorskip("langchain_cohere")
    documents = pytest.importorskip("langchain_core.documents")
    reranker = langchain.CohereRerank(model="any", cohere_api_key="none", base_url=reranking.url, top_n=5)
    found = reranker.compress_documents(
        [documents.Document(page_content=text, metadata={"place": place}) for place, text in enumerate(texts)], QUERY
    )
    assert [one.metadata["place"] for one in found] == best[0]
    np.testing.assert_allclose([one.metadata["relevance_score"] for one in found], best[1], atol=1e-5)


def test_haystack(reranking, texts, best):
    rankers = pytest.importorskip("haystack_integrations.components.rankers.cohere")
    haystack = pytest.importorskip("haystack")
    from haystack.utils import Secret

    ranker = rankers.CohereRanker(api_key=Secret.from_token("none"), api_base_url=reranking.url, top_k=5)
    found = ranker.run(query=QUERY, documents=[haystack.Document(content=text) for text in texts])["documents"]
    assert [texts.index(one.content) for one in found] == best[0]


def test_haystack_as_text_embeddings_inference(reranking, serve, texts, best):
    rankers = pytest.importorskip("haystack_integrations.components.rankers.huggingface_api")
    haystack = pytest.importorskip("haystack")
    from haystack.utils import Secret

    documents = [haystack.Document(content=text) for text in texts]
    ranker = rankers.HuggingFaceTEIRanker(url=reranking.url, top_k=5)
    for found in (ranker.run(QUERY, documents), asyncio.run(ranker.run_async(QUERY, documents))):
        assert [texts.index(one.content) for one in found["documents"]] == best[0]
        np.testing.assert_allclose([one.score for one in found["documents"]], best[1], atol=1e-5)
    raw = rankers.HuggingFaceTEIRanker(url=reranking.url, top_k=5, raw_scores=True).run(QUERY, documents)["documents"]
    np.testing.assert_allclose([(1 + one.score) / 2 for one in raw], best[1], atol=1e-5)
    closed = serve(key="right", bf16=False)
    token = Secret.from_token("right")
    found = rankers.HuggingFaceTEIRanker(url=closed.url, top_k=5, token=token).run(QUERY, documents)["documents"]
    assert [texts.index(one.content) for one in found] == best[0]
    with pytest.raises(RuntimeError, match="401"):
        rankers.HuggingFaceTEIRanker(url=closed.url, token=Secret.from_token("wrong")).run(QUERY, documents)


def test_llama_index_as_cohere(reranking, texts, best):
    module = pytest.importorskip("llama_index.postprocessor.cohere_rerank")
    reranker = module.CohereRerank(api_key="none", base_url=reranking.url, model="any", top_n=5)
    found = reranker.postprocess_nodes(_nodes(texts), query_str=QUERY)
    assert [texts.index(one.text) for one in found] == best[0]


def test_llama_index_as_text_embeddings_inference(reranking, texts, best):
    module = pytest.importorskip("llama_index.postprocessor.tei_rerank")
    reranker = module.TextEmbeddingInference(base_url=reranking.url, top_n=5)
    found = reranker.postprocess_nodes(_nodes(texts), query_str=QUERY)
    assert [texts.index(one.text) for one in found] == best[0]
    np.testing.assert_allclose([one.score for one in found], best[1], atol=1e-5)


def _nodes(texts):
    schema = pytest.importorskip("llama_index.core.schema")
    return [schema.NodeWithScore(node=schema.TextNode(text=text), score=0.0) for text in texts]


# -- the two lines for each client, as the documentation has them ------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "serving-clients.md").read_text(encoding="utf-8")
ADDRESS = "http://localhost:8080"
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
JAVASCRIPT = re.findall(r"```javascript\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.split()[1])
def test_the_lines_of_a_client(code, one_vector, monkeypatch, texts):
    pytest.importorskip(code.split()[1])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the server is on this machine
    names = {"QUERY": QUERY, "TEXTS": texts, "DIMENSION": 16}
    exec(compile(code.replace(ADDRESS, one_vector[0].url), "lines", "exec"), names)
    assert names.get("found", True)


@pytest.mark.parametrize("code", JAVASCRIPT, ids=lambda code: re.search(r'from "(.+?)"', code)[1])
def test_the_lines_of_a_client_in_javascript(code, one_vector, tmp_path):
    """Where `NODE_CLIENTS` is a folder in which the packages were installed by npm."""
    folder = os.environ.get("NODE_CLIENTS")
    if not folder:
        pytest.skip("NODE_CLIENTS names no folder with the clients")
    (tmp_path / "node_modules").symlink_to(Path(folder) / "node_modules")
    given = f"const QUERY = {json.dumps(QUERY)}, TEXTS = ['tea', 'rain'];\n"
    (tmp_path / "lines.mjs").write_text(given + code.replace(ADDRESS, one_vector[0].url))
    done = subprocess.run(["node", "lines.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
