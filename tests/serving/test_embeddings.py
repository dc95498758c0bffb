"""Document vectors in OpenAI's shape, asked for by OpenAI's own client."""

import numpy as np
import pytest

TEXTS = ["Tea in the garden.", "A letter from the doctor.", "Rain."]


def test_the_real_client(reranking, poly):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{reranking.url}/v1", api_key="none", max_retries=0)
    expected = poly.encode_document(TEXTS)
    answer = client.embeddings.create(model="any", input=TEXTS)  # base64, unless told otherwise
    np.testing.assert_allclose([one.embedding for one in answer.data], expected, atol=1e-2)
    assert answer.usage.prompt_tokens == sum(len(poly.tokenizer(text)["input_ids"]) for text in TEXTS)
    assert answer.model == "poly"
    single = client.embeddings.create(model="any", input=TEXTS[0], encoding_format="float")
    np.testing.assert_allclose(single.data[0].embedding, answer.data[0].embedding, atol=1e-6)
    assert [model.id for model in client.models.list()] == ["poly"]
    with pytest.raises(openai.UnprocessableEntityError, match="input"):
        client.embeddings.create(model="any", input=[[1, 2, 3]])


def test_a_cross_encoder_has_none(serve, models):
    server = serve(model=str(models / "cross"))
    answer = server.client.post("/v1/embeddings", json={"input": "a"})
    assert answer.status_code == 404
    assert "no document vectors" in answer.json()["error"]["message"]
