"""20,000 real replies in an index, in PostgreSQL and in Milvus: the same ten best, and the same certificates.

Vectors are means of the backbone's token embeddings, which takes no transformer and so no minutes; a query's codes are
embeddings of some of its tokens.
"""

import numpy as np
import pytest
import torch

from polyencoders import BiEncoder
from polyencoders.data import chitchat_replies
from polyencoders.index import Index
from polyencoders.index.stores import MilvusStore, PgVectorStore, search_store

NUMBER, QUERIES, CODES, TEMPERATURE = 20_000, 20, 4, 0.05


@pytest.fixture(scope="module")
def rows(backbone):
    """Rows with a vector each, the last few of which are queries."""
    pytest.importorskip("chitchat_dataset")
    model = BiEncoder(backbone)
    embeddings = model.route("query")[0].model.get_input_embeddings().weight.detach()
    replies = [reply["text"] for reply in chitchat_replies() if 20 < len(reply["text"]) < 200][: NUMBER + QUERIES]
    tokens = model.tokenizer(replies, add_special_tokens=False, truncation=True, max_length=64)["input_ids"]
    vectors = torch.stack([embeddings[ids].mean(0) for ids in tokens])
    vectors = torch.nn.functional.normalize(vectors, dim=-1).numpy()
    parts = [np.array_split(np.asarray(ids), CODES) for ids in tokens[-QUERIES:]]
    codes = torch.stack([torch.stack([embeddings[part].mean(0) for part in some]) for some in parts])
    documents = [
        {"id": f"d{place:05}", "text": text, "vector": vector, "metadata": {"length": len(text)}}
        for place, (text, vector) in enumerate(zip(replies[:NUMBER], vectors, strict=False))
    ]
    return documents, torch.nn.functional.normalize(codes, dim=-1).double().numpy()


@pytest.fixture(scope="module")
def answers(rows, tmp_path_factory):
    """Of the index."""
    documents, codes = rows
    index = Index.from_vectors(
        tmp_path_factory.mktemp("index") / "replies",
        np.stack([document["vector"] for document in documents]),
        [{"id": document["id"], "text": document["text"]} for document in documents],
    )
    assert len(index) == NUMBER
    return index.search(codes, 10, temperature=TEMPERATURE)


def check(store, rows, answers):
    assert len(store) == NUMBER
    found = search_store(store, rows[1], 10, TEMPERATURE)
    for theirs, ours in zip(found, answers, strict=True):
        assert ours.certified
        assert theirs.certified
        np.testing.assert_allclose([hit.score for hit in theirs.hits], [hit.score for hit in ours.hits], rtol=1e-9)
        worst = ours.hits[-1].score
        # Replies that say the same in other letters tie, and either of them may be the tenth.
        assert {hit.id for hit in theirs.hits if hit.score > worst + 1e-9} == {
            hit.id for hit in ours.hits if hit.score > worst + 1e-9
        }


def test_in_postgresql(server, rows, answers):
    with PgVectorStore.create(server, "replies", rows[0][0]["vector"].shape[0]) as store:
        store.add(rows[0])
        check(store, rows, answers)


def test_in_milvus(serve_milvus, rows, answers, tmp_path):
    pytest.importorskip("pymilvus")
    # A server of its own, begun now: one to which pymilvus has held a connection all the while that rows and answers
    # were made has been sent its heartbeats meanwhile, and hangs up ("too many pings").
    address, stop = serve_milvus(tmp_path)
    with MilvusStore.create(address, "replies", rows[0][0]["vector"].shape[0]) as store:
        store.add(rows[0])
        check(store, rows, answers)
    stop()
