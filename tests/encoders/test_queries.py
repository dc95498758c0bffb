"""A query is a text or turns; what does not fit goes from the oldest end, at a word, and the newest is kept."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from polyencoders.encoders.queries import cut, number_of_tokens

CONVERSATION = [f"turn{i} " + "again and again " * 8 + f"end{i}" for i in range(20)]
NEWEST = "so what do you suggest"


@pytest.fixture(scope="module")
def tokenizer(backbone):
    return AutoTokenizer.from_pretrained(backbone)


def read(model, features):
    """What the transformer is given of each text, decoded."""
    tokenizer = model.tokenizer
    return [
        tokenizer.decode([token for token, real in zip(row.tolist(), mask.tolist(), strict=True) if real])
        for row, mask in zip(features["input_ids"], features["attention_mask"], strict=True)
    ]


def test_a_text_and_a_list_of_one_turn_are_the_same_query(dual):
    one, other = dual.encode_query(["Any plans?", ["Any plans?"]])
    assert one == pytest.approx(other, abs=1e-6)
    assert dual.encode_query("Any plans?") == pytest.approx(one, abs=1e-6)
    a, b = dual.predict([("Any plans?", "No."), (["Any plans?"], "No.")])
    assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize("name", ["cross", "cross-warm", "arc-ii"])
def test_for_joint_encoders_too(built, name):
    a, b = built(name).predict([("Any plans?", "No."), (["Any plans?"], "No.")])
    assert a == pytest.approx(b, rel=1e-5)


def test_turns_are_joined_by_the_separator(build):
    model = build("bi")
    [seen] = read(model, model.preprocess([["Any plans?", "Hiking."]], task="query"))
    assert seen == "[CLS] any plans? [SEP] hiking. [SEP]"
    model = build("bi", turn_separator=" / ")
    [seen] = read(model, model.preprocess([["Any plans?", "Hiking."]], task="query"))
    assert seen == "[CLS] any plans? / hiking. [SEP]"


@pytest.mark.parametrize("limit", [None, 40, 12])
def test_a_long_conversation_is_cut_from_the_oldest_end(build, limit):
    model = build("poly-learnt", query_length=limit)
    features = model.preprocess([[*CONVERSATION, NEWEST]], task="query")
    assert features["input_ids"].shape[1] <= (limit or 128)
    assert features["input_ids"].shape[1] > (limit or 128) - 5  # and no more is cut than must be
    [seen] = read(model, features)
    assert seen.endswith(f"{NEWEST} [SEP]")
    assert "turn0" not in seen
    whole = set(" ".join([*CONVERSATION, "[CLS] [SEP]", NEWEST]).split())
    assert set(seen.split()) <= whole, "words are kept whole"


def test_a_document_is_cut_from_the_end(build):
    model = build("poly-learnt", document_length=12)
    [seen] = read(model, model.preprocess(["first words " + "again " * 300 + "last"], task="document"))
    assert seen.startswith("[CLS] first words again")
    assert "last" not in seen
    assert len(model.preprocess(["again " * 300], task="document")["input_ids"][0]) == 12


def test_two_towers_cut_alike(build):
    model = build("poly-first", query_length=12, document_length=20)
    assert model.preprocess([CONVERSATION], task="query")["input_ids"].shape[1] <= 12
    assert model.preprocess([" ".join(CONVERSATION)], task="document")["input_ids"].shape[1] == 20


def test_a_prompt_is_kept_beside_a_cut_query(build):
    model = build("bi", query_length=20)
    [seen] = read(model, model.preprocess([[*CONVERSATION, NEWEST]], prompt="search: ", task="query"))
    assert seen.startswith("[CLS] search :")
    assert seen.endswith(f"{NEWEST} [SEP]")


def test_a_long_text_without_spaces_keeps_its_newest_characters(build):
    model = build("bi", query_length=12)
    [seen] = read(model, model.preprocess(["天" * 200 + "山人大"], task="query"))
    assert seen.replace(" ", "").endswith("天山人大[SEP]")


def test_a_long_pair_keeps_the_newest_of_its_query_and_the_beginning_of_its_document(built):
    model = built("cross")
    features = model.preprocess([([*CONVERSATION, NEWEST], "first words " + "again " * 300)])
    [seen] = read(model, features)
    query, document, *_ = seen.removeprefix("[CLS]").rsplit("[SEP]", 2)
    assert query.rstrip().endswith(NEWEST)
    assert document.strip().startswith("first words again")
    assert 120 < features["input_ids"].shape[1] <= 128
    # Neither crowds the other out.
    assert len(document.split()) > 50
    assert len(query.split()) > 30


def test_a_prompt_is_kept_beside_a_cut_pair(built):
    model = built("cross")
    prompt = "does the document answer the last question of the conversation: "
    for document in ("a short document", "first words " + "again " * 300):
        features = model.preprocess([([*CONVERSATION, NEWEST], document)], prompt=prompt)
        [seen] = read(model, features)
        query, kept, *_ = seen.removeprefix("[CLS]").rsplit("[SEP]", 2)
        assert query.strip().startswith("does the document answer the last question of the conversation :")
        assert query.rstrip().endswith(NEWEST)
        assert kept.strip().startswith(document[:16].strip())
        assert 120 < features["input_ids"].shape[1] <= 128
    [seen] = read(model, model.preprocess([(NEWEST, "a document")], prompt="as long as can be " * 60))
    assert seen.startswith("[CLS] as long as can be")  # nothing else fits, and nothing is raised


def test_a_long_pair_with_a_short_query_or_a_short_document_keeps_that_whole(built):
    model = built("cross")
    [seen] = read(model, model.preprocess([(NEWEST, "again " * 300 + "last")]))
    assert seen.startswith(f"[CLS] {NEWEST} [SEP]")
    [seen] = read(model, model.preprocess([(CONVERSATION, "a short document")]))
    assert seen.endswith("end19 [SEP] a short document [SEP]")


def test_arc_ii_keeps_the_newest_of_the_query_and_the_first_of_the_document(build):
    model = build("arc-ii", query_length=16, document_length=16)
    features = model.preprocess([([*CONVERSATION, NEWEST], "first words " + "again " * 300), ("a", "b")])
    assert features["query_ids"].shape == features["document_ids"].shape == (2, 16)
    assert model.tokenizer.decode(features["query_ids"][0]).endswith(NEWEST)
    assert model.tokenizer.decode(features["document_ids"][0]).startswith("first words again")
    assert features["query_mask"].sum(1).tolist() == [16, 1]


@given(
    text=st.lists(st.sampled_from(["a", "hiking", "unbelievably", "天气很好", "\n", "[SEP]", "x" * 30]), max_size=30),
    limit=st.integers(1, 25),
    keep=st.sampled_from(["newest", "oldest"]),
)
def test_cutting_keeps_an_end_that_fits_and_as_much_of_it_as_does(tokenizer, text, limit, keep):
    text = " ".join(text)
    kept = cut(tokenizer, text, limit, keep)
    assert kept == text or number_of_tokens(tokenizer, kept) <= limit
    assert text.strip().endswith(kept.strip()) if keep == "newest" else text.strip().startswith(kept.strip())
    if kept != text and len(words := kept.split()) > 1:
        every = text.split()
        more = every[-len(words) - 1 :] if keep == "newest" else every[: len(words) + 1]
        assert number_of_tokens(tokenizer, " ".join(more)) > limit


def test_a_text_that_fits_is_left_alone(tokenizer):
    assert cut(tokenizer, "  as it\n is ", 10, "newest") == "  as it\n is "
    assert cut(tokenizer, "", 0, "newest") == ""


def test_nothing_fits_into_no_room(tokenizer):
    assert cut(tokenizer, "hiking", 0, "newest") == ""


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (5, "a query is a text or a list of turns .* got int 5"),
        (None, "got NoneType None"),
        (b"bytes", "got bytes"),
        (["a", 3], r"got list \['a', 3\]"),
        ({"query": "a"}, "got dict"),
    ],
)
def test_what_is_no_query_is_named(dual, query, message):
    with pytest.raises(TypeError, match=message):
        dual.encode_query([query])


def test_a_conversation_needs_a_turn(model):
    with pytest.raises(ValueError, match="at least one turn"):
        model.predict([([], "a document")])


def test_what_is_no_document_is_named(dual):
    with pytest.raises(TypeError, match=r"a document is a text, got list \['a', 'b'\]"):
        dual.encode_document([["a", "b"]])


def test_positions_are_never_exceeded(model):
    with torch.inference_mode():
        assert len(model.predict([("天" * 3000, "字" * 3000), (["word " * 3000], "word " * 3000)])) == 2


@pytest.mark.parametrize("keep", ["newest", "oldest"])
def test_of_a_text_that_is_far_too_long_little_is_tokenised(tokenizer, keep):
    class Counting:
        read = 0

        def __call__(self, text, **more):
            self.read += len(text)
            return tokenizer(text, **more)

    counting = Counting()
    words = [f"word{number}" for number in range(100_000)]
    kept = cut(counting, " ".join(words), 30, keep).split()
    assert kept == (words[-len(kept) :] if keep == "newest" else words[: len(kept)])
    assert 5 <= len(kept) <= 30
    assert counting.read < 10_000
