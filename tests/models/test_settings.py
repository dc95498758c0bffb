"""Settings that cannot be, or that contradict a saved model, are refused in one line that says what would be right."""

import json
import math
import shutil

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from polyencoders import ArcII, BiEncoder, CrossEncoder, PolyEncoder
from polyencoders.errors import ModelError


@pytest.mark.parametrize("m", [0, -1, 2.5, True, "4"])
def test_m_is_a_whole_number_of_at_least_1(tiny_backbone, m):
    for architecture, more in (
        (PolyEncoder, {}),
        (PolyEncoder, {"codes": "last"}),
        (BiEncoder, {"reduction": "attention"}),
    ):
        with pytest.raises(ModelError, match=rf"^m, .* must be a whole number of at least 1, got {m!r}$"):
            architecture(tiny_backbone, m=m, **more)


@pytest.mark.parametrize("n", [0, 2.5, None])
def test_the_mean_of_the_first_n_needs_n(tiny_backbone, n):
    for architecture in (BiEncoder, PolyEncoder):
        with pytest.raises(ModelError, match=rf"^n, .* must be a whole number of at least 1, got {n!r}$"):
            architecture(tiny_backbone, reduction="mean-first-n", n=n)


@pytest.mark.parametrize(
    ("architecture", "settings", "message"),
    [
        (PolyEncoder, {"codes": "leanrt"}, "codes must be one of learnt, first, last, last-and-first, got 'leanrt'"),
        (PolyEncoder, {"maps": "both"}, "maps must be one of each, shared, none, got 'both'"),
        (BiEncoder, {"reduction": "attention", "maps": "both"}, "maps must be one of each, shared, none, got 'both'"),
        (PolyEncoder, {"position_bias": "yes"}, "position_bias must be True or False, got 'yes'"),
        (PolyEncoder, {"codes": "first", "position_bias": True}, "position_bias is of learnt codes; these are 'first'"),
        (BiEncoder, {"position_bias": True}, "position_bias=True does not apply to a BiEncoder with the other"),
        (PolyEncoder, {"reduction": "cls"}, "reduction must be one of first, mean, mean-first-n, max, .* got 'cls'"),
        (BiEncoder, {"reduction": "cls"}, "reduction must be one of first, mean, .* attention, got 'cls'"),
        (PolyEncoder, {"reduction": "attention"}, "attention is of a bi-encoder's queries"),
        (BiEncoder, {"document_reduction": "attention"}, "attention is of a bi-encoder's queries"),
        (BiEncoder, {"m": 4}, "m=4 does not apply to a BiEncoder with the other settings given: its m is None"),
        (PolyEncoder, {"n": 4}, "n=4 does not apply to a PolyEncoder"),
        (PolyEncoder, {"turn_separator": 5}, "turn_separator must be a text, got 5"),
        (CrossEncoder, {"turn_separator": 5}, "turn_separator must be a text, got 5"),
        (PolyEncoder, {"query_length": 0}, "query_length must be a whole number of at least 3, got 0"),
        (BiEncoder, {"document_length": 2}, "document_length must be a whole number of at least 3, got 2"),
        (PolyEncoder, {"query_length": 129}, "query_length is 129, but the backbone has positions for 128 tokens only"),
        (ArcII, {"query_length": 15}, "query_length must be a whole number of at least 16, got 15"),
        (ArcII, {"document_length": "long"}, "document_length must be a whole number of at least 16, got 'long'"),
    ],
)
def test_what_cannot_be_is_refused(tiny_backbone, architecture, settings, message):
    with pytest.raises(ModelError, match=message):
        architecture(tiny_backbone, **settings)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf, True, "warm"])
def test_a_temperature_is_a_number_above_0(tiny_backbone, temperature):
    with pytest.raises(ModelError, match=f"temperature must be a number above 0, got {temperature!r}"):
        PolyEncoder(tiny_backbone, temperature=temperature)


@pytest.mark.parametrize("architecture", [ArcII, BiEncoder, CrossEncoder, PolyEncoder])
def test_a_model_is_built_on_something(architecture):
    with pytest.raises(ModelError, match=f"{architecture.__name__} needs a saved model or a backbone"):
        architecture()


def test_defaults_are_those_that_were_found_to_do_best(tiny_backbone, backbone):
    model = PolyEncoder(tiny_backbone)
    assert (model.m, model.codes, model.maps, model.temperature, model.normalize) == (4, "learnt", "each", 1.0, False)
    assert PolyEncoder(tiny_backbone, m=8).maps == "each"
    assert PolyEncoder(tiny_backbone, m=9).maps == "shared"
    assert PolyEncoder(tiny_backbone, codes="first").maps == "none"
    assert model.position_bias
    assert BiEncoder(tiny_backbone, reduction="attention").position_bias
    assert not PolyEncoder(tiny_backbone, codes="first").position_bias
    # The backbone's own vectors have length 1: inner products are cosines, which a softmax at 1 hardly tells apart.
    model = PolyEncoder(backbone)
    assert (model.normalize, model.temperature, model.score_scale, model.reduction) == (True, 0.05, 20.0, "mean")
    assert PolyEncoder(tiny_backbone).score_scale == 1.0


@pytest.fixture(scope="module")
def saved(built, tmp_path_factory):
    """A directory for each architecture."""
    paths = {}
    for name in ("bi-attention", "poly-learnt", "cross", "arc-ii"):
        paths[type(built(name))] = tmp_path_factory.mktemp("saved") / name
        built(name).save_pretrained(paths[type(built(name))])
    return paths


@pytest.mark.parametrize("architecture", [ArcII, BiEncoder, CrossEncoder, PolyEncoder])
def test_a_directory_of_another_architecture_is_refused_by_both_names(saved, architecture):
    for other in (ArcII, BiEncoder, CrossEncoder, PolyEncoder):
        if other is not architecture:
            expected = f"holds a {other.__name__}, not a {architecture.__name__}: load it with {other.__name__}"
            with pytest.raises(ModelError, match=expected) as error:
                architecture(saved[other])
            assert str(saved[other]) in str(error.value)


def test_settings_that_contradict_a_saved_model_are_refused(saved):
    path = saved[PolyEncoder]
    contradictions = {
        "m": 4, "codes": "first", "maps": "none", "reduction": "max", "normalize": True, "temperature": 0.5,
        "position_bias": False,
        "shared_tower": False, "turn_separator": " / ", "query_length": 10, "document_map": True,
    }  # fmt: skip
    for setting, value in contradictions.items():
        with pytest.raises(ModelError, match=rf"was saved with {setting}=.* cannot be loaded with {setting}="):
            PolyEncoder(path, **{setting: value})
    with pytest.raises(ModelError, match="was saved with query_length=64 and cannot be loaded with query_length=32"):
        ArcII(saved[ArcII], query_length=32)
    with pytest.raises(ModelError, match=r"was saved with turn_separator=' \[SEP\] '"):
        CrossEncoder(saved[CrossEncoder], turn_separator=" / ")


def test_settings_that_agree_with_a_saved_model_are_welcome(saved):
    model = PolyEncoder(saved[PolyEncoder], m=3, codes="learnt", maps="each", shared_tower=True, temperature=1)
    assert model.m == 3
    BiEncoder(saved[BiEncoder], reduction="attention", m=3, shared_tower=False)


@pytest.mark.parametrize("architecture", [ArcII, BiEncoder, CrossEncoder, PolyEncoder])
def test_weights_that_are_cut_short_are_refused(saved, tmp_path, architecture):
    for weights in saved[architecture].rglob("model.safetensors"):
        for kept in (0, 4, 0.5, -1):
            damaged = tmp_path / "damaged"
            shutil.copytree(saved[architecture], damaged)
            content = weights.read_bytes()
            end = int(len(content) * kept) if isinstance(kept, float) else kept if kept >= 0 else len(content) + kept
            (damaged / weights.relative_to(saved[architecture])).write_bytes(content[:end])
            with pytest.raises(ModelError, match="damaged or cut short") as error:
                architecture(damaged)
            assert str(damaged) in str(error.value)
            shutil.rmtree(damaged)


def test_there_are_weights_of_codes_to_cut_short(saved):
    found = {path.parent.name for path in saved[PolyEncoder].rglob("model.safetensors")}
    assert found == {"poly-learnt", "query_0_QueryCodes"}


@pytest.mark.parametrize("architecture", [ArcII, BiEncoder, CrossEncoder, PolyEncoder])
def test_a_configuration_that_is_cut_short_is_refused(saved, tmp_path, architecture):
    damaged = tmp_path / "damaged"
    shutil.copytree(saved[architecture], damaged)
    config = damaged / "config_sentence_transformers.json"
    config.write_text(config.read_text()[:20])
    with pytest.raises(ModelError, match=r"config_sentence_transformers\.json is damaged or cut short"):
        architecture(damaged)


def test_a_model_without_a_transformer_in_front_is_no_backbone(tmp_path, backbone):
    shutil.copytree(backbone, tmp_path / "words")
    modules = [
        {"idx": 0, "name": "0", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (tmp_path / "words" / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="begins with a Pooling module; a backbone is"):
        BiEncoder(tmp_path / "words")


def reranker(path, tiny_backbone, labels):
    config = BertConfig.from_pretrained(tiny_backbone, num_labels=labels)
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_backbone).save_pretrained(path)


def test_an_existing_reranker_is_used_as_it_is(tmp_path, tiny_backbone):
    from sentence_transformers import CrossEncoder as Original

    reranker(tmp_path / "reranker", tiny_backbone, 1)
    pairs = [("a query", "a document"), ("another", "document")]
    expected = Original(str(tmp_path / "reranker")).predict(pairs)
    model = CrossEncoder(tmp_path / "reranker")
    assert model.predict(pairs) == pytest.approx(expected, abs=1e-6)
    model.save_pretrained(tmp_path / "ours")
    assert CrossEncoder(tmp_path / "ours").predict(pairs) == pytest.approx(expected, abs=1e-6)


def test_a_classifier_of_several_classes_is_no_cross_encoder(tmp_path, tiny_backbone):
    reranker(tmp_path / "classifier", tiny_backbone, 3)
    with pytest.raises(ModelError, match="tells 3 classes apart; a cross-encoder has one score a pair"):
        CrossEncoder(tmp_path / "classifier")
