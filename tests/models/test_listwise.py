"""A listwise head: what it must not depend on, what it must, and its base's ranking until it is trained."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from polyencoders import BiEncoder, ListwiseReranker, PolyEncoder
from polyencoders.errors import ModelError
from polyencoders.models.cached_ranking import CachedRanking
from polyencoders.models.listwise_head import ListwiseHead
from polyencoders.models.loading import load_model
from polyencoders.scoring import score_all_pairs

QUERIES = ["Any plans for the weekend?", ["Hello.", "Do you like tea?"], "Where is my parcel?"]
DOCUMENTS = ["Which trail?", "I like tea.", "It left this morning.", "In Oslo.", "the hills " * 20, "Milk, please."]


def moved(head, seed=0):
    """The head with every weight off its start, so that all of it shows in the scores."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in head.parameters():
            weights += 0.2 * torch.randn(weights.shape, generator=generator)
    return head.eval()


@pytest.fixture
def head():
    """Eight dimensions, tokens as wide as two attention heads."""
    torch.manual_seed(0)
    return moved(ListwiseHead(8, temperature=0.3, scale=5.0, width=128))


@pytest.fixture
def vectors():
    """Codes `(3, 4, 8)`, the last of one query absent, and lists of documents `(3, 6, 8)`."""
    generator = torch.Generator().manual_seed(1)
    codes, documents = torch.randn(3, 4, 8, generator=generator), torch.randn(3, 6, 8, generator=generator)
    codes[1, 3] = 0
    return codes, documents


@pytest.fixture
def reranker(build):
    """On a tiny poly-encoder, its head moved; it reads four documents together."""
    model = ListwiseReranker(build("poly-learnt"), depth=4)
    moved(model.head)
    return model


def plain(head, codes, documents):
    """The equations of one list without absent codes or documents, an attention head after another, in float64."""
    weights = {name: tensor.double() for name, tensor in head.state_dict().items()}
    y, c = codes.double(), documents.double()

    def normal(x, name=None):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return x if name is None else x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)

    inner = c @ y.T
    shares = torch.softmax(inner / head.temperature, dim=1)
    base = (shares * inner).sum(1)
    behind = head.scale * (base - base.max())
    v = linear(normal(c), "document") + linear(normal(shares @ y) * normal(c), "product")
    v = v + linear(torch.stack([behind / 5, behind.exp()], dim=1), "standing")
    x = torch.cat([linear(normal(y), "query"), v])
    for number, layer in enumerate(head.layers):
        name = f"layers.{number}"
        query, key, value = linear(normal(x, f"{name}.attention_norm"), f"{name}.query_key_value").chunk(3, dim=1)
        parts = []
        for part in range(layer.heads):
            size = head.width // layer.heads
            some = slice(part * size, (part + 1) * size)
            attention = torch.softmax(query[:, some] @ key[:, some].T / size**0.5, dim=1)
            parts.append(attention @ value[:, some])
        x = x + linear(torch.cat(parts, dim=1), f"{name}.mixed")
        inside = functional.gelu(linear(normal(x, f"{name}.feed_norm"), f"{name}.feed.0"))
        x = x + linear(inside, f"{name}.feed.2")
    change = normal(x[len(y) :], "norm") @ weights["output.weight"][0]
    return base + change / head.scale


def test_the_scores_are_those_of_the_equations(head, vectors):
    codes, documents = vectors
    assert head.layers[0].heads == 2
    for place in (0, 2):
        expected = plain(head, codes[place], documents[place])
        assert torch.allclose(head(codes, documents)[place].double(), expected, atol=1e-4)
    assert torch.allclose(head(codes, documents)[1].double(), plain(head, codes[1, :3], documents[1]), atol=1e-4)


def test_a_new_head_gives_the_bases_scores(vectors):
    codes, documents = vectors
    scores = ListwiseHead(8, temperature=0.3, scale=5.0, width=16).eval()(codes, documents)
    for place in range(3):
        expected = score_all_pairs(codes[place : place + 1], documents[place], 0.3)[0]
        assert torch.allclose(scores[place], expected, atol=1e-6)


def test_documents_in_another_order_get_the_same_scores(head, vectors):
    codes, documents = vectors
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    assert torch.allclose(head(codes, documents[:, order]), head(codes, documents)[:, order], atol=1e-5)
    assert not torch.allclose(head(codes[[1, 0, 2]], documents), head(codes, documents), atol=1e-2)


def test_what_fills_up_a_list_changes_nothing(head, vectors):
    codes, documents = vectors
    present = torch.ones(3, 6, dtype=torch.bool)
    present[0, 4:] = False
    filled = documents.clone()
    filled[0, 4:] = 1000 * torch.randn(2, 8)
    scores = head(codes, filled, present)
    assert torch.allclose(scores[0, :4], head(codes[:1], documents[:1, :4])[0], atol=1e-5)
    assert torch.isinf(scores[0, 4:]).all()
    assert torch.allclose(scores[1:], head(codes, documents)[1:], atol=1e-5)


def test_a_documents_score_depends_on_the_others(head, vectors):
    codes, documents = vectors
    others = documents.clone()
    others[:, 1:] = -others[:, 1:]
    assert (head(codes, documents)[:, 0] - head(codes, others)[:, 0]).abs().min() > 1e-3


def test_gradients_reach_every_weight(head, vectors):
    codes, documents = vectors
    head.train()
    functional.cross_entropy(head(codes, documents), torch.tensor([0, 3, 5])).backward()
    assert [name for name, weights in head.named_parameters() if not weights.grad.abs().sum() > 0] == []


def test_shapes_that_do_not_fit_are_named(head, vectors):
    codes, documents = vectors
    with pytest.raises(ValueError, match=r"got \(3, 4, 8\) and \(6, 8\)"):
        head(codes, documents[0])
    with pytest.raises(ValueError, match="vectors of 8 dimensions, got 7 and 8"):
        head(codes[..., :7], documents)


@pytest.mark.parametrize("name", ["bi", "bi-attention", "poly-learnt", "poly-first", "poly-last"])
def test_an_untrained_reranker_scores_and_ranks_as_its_base(built, name):
    base = built(name)
    model = ListwiseReranker(base, depth=3)
    for mine, theirs in zip(
        model.score_lists(QUERIES, [DOCUMENTS] * 3), base.score_lists(QUERIES, [DOCUMENTS] * 3), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert model.rank(QUERIES[1], DOCUMENTS, top_k=2, return_documents=True) == base.rank(
        QUERIES[1], DOCUMENTS, top_k=2, return_documents=True
    )


def test_the_bases_best_are_read_together_and_the_rest_stay_behind(reranker):
    base = reranker.base
    places = [hit["corpus_id"] for hit in base.rank(QUERIES[1], DOCUMENTS)]
    ranked = reranker.rank(QUERIES[1], DOCUMENTS)
    assert {hit["corpus_id"] for hit in ranked[:4]} == set(places[:4])
    assert [hit["corpus_id"] for hit in ranked[4:]] == places[4:]
    scores = [hit["score"] for hit in ranked]
    assert scores == sorted(scores, reverse=True)
    codes, vectors = base.encode_query([QUERIES[1]]), base.encode_document([DOCUMENTS[place] for place in places[:4]])
    expected = reranker.head(torch.from_numpy(codes), torch.from_numpy(vectors)[None])[0]
    found = {hit["corpus_id"]: hit["score"] for hit in ranked}
    assert torch.allclose(torch.tensor([found[place] for place in places[:4]]), expected, atol=1e-5)


def test_ranking_texts_and_kept_vectors_and_from_a_cache_is_the_same(reranker):
    texts = reranker.rank(QUERIES[1], DOCUMENTS, top_k=5)
    ways = [
        reranker.rerank(QUERIES[1], reranker.encode_document(DOCUMENTS), top_k=5),
        CachedRanking(reranker).rank(QUERIES[1], DOCUMENTS, top_k=5),
    ]
    for other in ways:
        assert [hit["corpus_id"] for hit in other] == [hit["corpus_id"] for hit in texts]
        assert [hit["score"] for hit in other] == pytest.approx([hit["score"] for hit in texts], abs=1e-4)


def test_nothing_to_rank_and_wrong_input(reranker):
    assert reranker.rank("a", []) == reranker.rerank("a", np.empty((0, 16), np.float32)) == []
    assert reranker.score_lists([], []) == []
    with pytest.raises(ValueError, match="top_k must be a whole number of at least 1, got 0"):
        reranker.rank("a", DOCUMENTS, top_k=0)
    with pytest.raises(TypeError, match="a query is a text or a list of turns"):
        reranker.rerank(5, reranker.encode_document(DOCUMENTS))


def test_a_saved_reranker_scores_the_same_when_loaded(reranker, tmp_path):
    reranker.save_pretrained(tmp_path / "listed")
    expected = reranker.score_lists(QUERIES, [DOCUMENTS] * 3)
    for loaded in (ListwiseReranker(tmp_path / "listed"), load_model(tmp_path / "listed")):
        assert isinstance(loaded, ListwiseReranker)
        assert loaded.depth == 4
        for mine, theirs in zip(loaded.score_lists(QUERIES, [DOCUMENTS] * 3), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    card = (tmp_path / "listed" / "README.md").read_text()
    assert "A ListwiseReranker" in card
    assert "2 layers, 16 wide, over the best 4 documents" in card
    assert ListwiseReranker(tmp_path / "listed", depth=2).depth == 2


def test_the_base_alone_loads_from_the_same_directory_and_replaces_both(reranker, tmp_path):
    reranker.save_pretrained(tmp_path / "listed")
    base = PolyEncoder(tmp_path / "listed")
    np.testing.assert_array_equal(base.encode_document(DOCUMENTS), reranker.encode_document(DOCUMENTS))
    base.save_pretrained(tmp_path / "listed")
    assert type(load_model(tmp_path / "listed")) is PolyEncoder  # no head of another model stays beside it


def test_an_error_while_saving_changes_nothing(reranker, built, tmp_path, monkeypatch):
    built("bi").save_pretrained(tmp_path / "model")
    before = sorted(path.name for path in (tmp_path / "model").iterdir())

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("polyencoders.models.listwise.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        reranker.save_pretrained(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert type(load_model(tmp_path / "model")) is BiEncoder


def test_damaged_or_missing_parts_are_named(reranker, built, tmp_path):
    built("bi").save_pretrained(tmp_path / "plain")
    with pytest.raises(ModelError, match=r"plain has no listwise head \(listwise.json\)"):
        ListwiseReranker(tmp_path / "plain")
    reranker.save_pretrained(tmp_path / "listed")
    weights = tmp_path / "listed" / "listwise.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"listwise.safetensors is damaged"):
        load_model(tmp_path / "listed")
    (tmp_path / "listed" / "listwise.json").write_text("{")
    with pytest.raises(ModelError, match=r"listwise.json is damaged or cut short"):
        load_model(tmp_path / "listed")


def test_a_base_without_vectors_and_a_head_of_another_are_refused(built):
    with pytest.raises(ModelError, match="goes on a BiEncoder or a PolyEncoder, got CrossEncoder"):
        ListwiseReranker(built("cross"))
    with pytest.raises(ModelError, match="its dimension is 8, not 16"):
        ListwiseReranker(built("poly-learnt"), ListwiseHead(8))
