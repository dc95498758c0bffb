"""What sentence-transformers would do silently wrong with these models is either right here, or a clear error."""

import numpy as np
import pytest
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    RerankingEvaluator,
    TripletEvaluator,
)
from sentence_transformers.util import mine_hard_negatives

from polyencoders import BiEncoder, PolyEncoder

QUERIES = {"q1": "Any plans for the weekend?", "q2": "What is for dinner?", "q3": "hills"}
CORPUS = {
    "d1": "Hiking, if it stays dry.",
    "d2": "Soup, I think.",
    "d3": "A walk in the hills.",
    "d4": "Bread and tea.",
}
RELEVANT = {"q1": {"d1", "d3"}, "q2": {"d2"}, "q3": {"d3"}}


def test_encode_without_a_side_is_refused(dual):
    with pytest.raises(ValueError, match=r"encode needs to know the side .* encode_query and encode_document"):
        dual.encode(["a text"])
    with pytest.raises(ValueError, match="got 'passage'"):
        dual.encode(["a text"], task="passage")


def test_encode_with_a_side_is_the_encode_of_that_side(dual):
    assert (dual.encode(["a text"], task="query") == dual.encode_query(["a text"])).all()
    assert (dual.encode(["a text"], task="document") == dual.encode_document(["a text"])).all()


def test_forward_and_preprocess_without_a_side_are_refused(dual):
    features = dual.preprocess(["a text"], task="query")
    dual(dict(features))
    del features["task"]
    with pytest.raises(ValueError, match="forward needs to know the side"):
        dual(features)
    with pytest.raises(ValueError, match="preprocess needs to know the side"):
        dual.preprocess(["a text"])


def test_normalising_codes_afterwards_is_refused(poly):
    for encode in (poly.encode_query, poly.encode_document):
        with pytest.raises(ValueError, match=r"normalize_embeddings=True would change .* normalize=True"):
            encode(["a text"], normalize_embeddings=True)


def test_mining_negatives_which_normalises_is_an_error_and_not_wrong_vectors(poly):
    pairs = Dataset.from_dict({"query": list(QUERIES.values()), "answer": list(CORPUS.values())[:3]})
    with pytest.raises(ValueError, match="normalize_embeddings=True would change"):
        mine_hard_negatives(pairs, poly, num_negatives=1, verbose=False)


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_codes_are_not_quantised(poly, precision):
    with pytest.raises(ValueError, match=f"query codes are float32, got precision='{precision}'"):
        poly.encode_query(["a text"], precision=precision)


def test_documents_may_be_quantised(poly):
    assert poly.encode_document(["a text"] * 3, precision="binary").dtype == np.int8


def evaluate(model):
    evaluator = InformationRetrievalEvaluator(
        QUERIES, CORPUS, RELEVANT, accuracy_at_k=[1, 2], precision_recall_at_k=[2], mrr_at_k=[4], ndcg_at_k=[4],
        map_at_k=[4], write_csv=False, corpus_chunk_size=3,
    )  # fmt: skip
    return evaluator, evaluator(model)


def test_the_retrieval_evaluator_names_the_score_what_it_is_and_measures_it(poly):
    evaluator, values = evaluate(poly)
    assert evaluator.primary_metric == "custom_ndcg@4"
    assert all(name.startswith("custom_") for name in values)
    reciprocal, best, found = [], [], []
    for key, query in QUERIES.items():
        order = [list(CORPUS)[hit["corpus_id"]] for hit in poly.rank(query, list(CORPUS.values()))]
        right = [document in RELEVANT[key] for document in order]
        reciprocal.append(1 / (1 + right.index(True)))
        best.append(right[0])
        found.append(sum(right[:2]) / len(RELEVANT[key]))
    assert values["custom_mrr@4"] == pytest.approx(np.mean(reciprocal))
    assert values["custom_accuracy@1"] == pytest.approx(np.mean(best))
    assert values["custom_recall@2"] == pytest.approx(np.mean(found))


def test_a_bi_encoders_score_is_called_dot(built):
    assert built("bi").similarity_fn_name == "dot"
    assert evaluate(built("bi"))[0].primary_metric == "dot_ndcg@4"


def test_the_triplet_evaluator_gives_a_clear_error(poly):
    with pytest.raises(ValueError, match=r"TripletEvaluator knows cosine, .*RankingEvaluator"):
        TripletEvaluator(["a query"], ["a document"], ["another"], write_csv=False)(poly)


def test_the_triplet_evaluator_measures_a_bi_encoder_by_its_score(built):
    model = built("bi-attention")
    triplets = (list(QUERIES.values()), list(CORPUS.values())[:3], list(CORPUS.values())[1:])
    expected = [model.predict((a, p)) > model.predict((a, n)) for a, p, n in zip(*triplets, strict=True)]
    assert TripletEvaluator(*triplets, write_csv=False)(model) == {"dot_accuracy": pytest.approx(np.mean(expected))}


def test_the_reranking_evaluator_must_be_told_the_score(poly):
    samples = [{"query": QUERIES["q1"], "positive": [CORPUS["d1"]], "negative": [CORPUS["d2"], CORPUS["d4"]]}]
    with pytest.raises(ValueError, match=r"scored by cosine, .* similarity_fct=model\.similarity"):
        RerankingEvaluator(samples, write_csv=False)(poly)
    values = RerankingEvaluator(samples, similarity_fct=poly.similarity, write_csv=False)(poly)
    order = [hit["corpus_id"] for hit in poly.rank(QUERIES["q1"], [CORPUS[key] for key in ("d1", "d2", "d4")])]
    assert values["mrr@10"] == pytest.approx(1 / (1 + order.index(0)))


@pytest.mark.parametrize("evaluator", [EmbeddingSimilarityEvaluator, BinaryClassificationEvaluator])
def test_evaluators_of_texts_without_sides_give_a_clear_error(dual, evaluator):
    with pytest.raises(ValueError, match="encode needs to know the side of a text"):
        evaluator(["a", "b"], ["c", "d"], [0, 1], write_csv=False)(dual)


def test_a_poly_encoder_on_a_plain_model_has_codes(backbone, tiny_backbone):
    for path in (backbone, tiny_backbone):
        model = PolyEncoder(path)
        assert model.query_codes.codes.shape[0] == 4
        assert model.encode_query("a query").shape == (4, model.get_embedding_dimension())


@pytest.mark.parametrize("shared_tower", [True, False])
def test_sentence_transformers_refuses_a_poly_directory_instead_of_dropping_its_codes(tmp_path, build, shared_tower):
    build("poly-learnt", shared_tower=shared_tower).save_pretrained(tmp_path / "poly")
    with pytest.raises(ValueError, match=r"polyencoders\.models\.query_codes\.QueryCodes"):
        SentenceTransformer(str(tmp_path / "poly"))


def test_no_score_is_ever_called_cosine(tmp_path, dual):
    dual.save_pretrained(tmp_path / "model")
    name = "custom" if isinstance(dual, PolyEncoder) else "dot"
    config = (tmp_path / "model" / "config_sentence_transformers.json").read_text()
    card = (tmp_path / "model" / "README.md").read_text()
    assert f'"similarity_fn_name": "{name}"' in config
    assert f"(`{name}`)" in card
    assert "cosine" not in config.lower() + card.lower()
    assert type(dual)(tmp_path / "model").similarity_fn_name == name


def test_the_score_has_one_name_whatever_the_backbones_config_says(backbone):
    assert PolyEncoder(backbone).similarity_fn_name == "custom"  # its own says cosine
    assert BiEncoder(backbone).similarity_fn_name == "dot"
    model = PolyEncoder(backbone)
    model.similarity_fn_name = "cosine"
    assert model.similarity_fn_name == "custom"
