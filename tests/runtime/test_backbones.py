"""Which backbones can be exported: each as a tiny random model. `docs/without-pytorch.md` has the table."""

import pytest
import torch
import transformers

from polyencoders import PolyEncoder
from polyencoders.errors import ModelError
from polyencoders.export import export_model

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SPECIAL = {"pad_token_id": 0, "cls_token_id": 101, "sep_token_id": 102, "bos_token_id": 101, "eos_token_id": 102}
EXPORTED = {
    "Bert": {},
    "Roberta": {"pad_token_id": 0},
    "XLMRoberta": {"pad_token_id": 0},
    "MPNet": {"pad_token_id": 0},
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "Albert": {"embedding_size": 16},
    "Electra": {"embedding_size": 16},
    "ModernBert": SPECIAL,
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 32},
    "NomicBert": SPECIAL,
    "T5Encoder": {"d_model": 32, "d_kv": 16, "num_heads": 2, "num_layers": 2, "d_ff": 64},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 260, "bos_token_id": 101, "eos_token_id": 102},
    "Qwen3": {**SPECIAL, "num_key_value_heads": 1, "head_dim": 16},
}
OTHER_NAMES = ("DistilBert", "GPT2", "T5Encoder", "Funnel")
"""Backbones that name their sizes in their own way."""


def made(name, settings, backbone, folder):
    """A poly-encoder on a tiny random backbone of an architecture of transformers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(backbone)
    tokenizer.model_max_length = 256
    sizes = {} if name in OTHER_NAMES else SIZES
    config = getattr(transformers, f"{name.removesuffix('Encoder')}Config")(
        vocab_size=len(tokenizer), **sizes, **{"max_position_embeddings": 260, **settings}
    )
    torch.manual_seed(0)
    getattr(transformers, f"{name}Model")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return PolyEncoder(str(folder), m=4)


@pytest.mark.parametrize("name", EXPORTED)
def test_backbones_that_can_be_exported(name, backbone, tmp_path):
    model = made(name, EXPORTED[name], backbone, tmp_path / "backbone")
    assert export_model(model, tmp_path / "exported").difference < 1e-5
    assert export_model(model, tmp_path / "int8", "int8").difference < 0.05


def test_a_backbone_whose_graph_does_not_run_is_refused_and_nothing_is_written(backbone, tmp_path):
    pooling = {"d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1]}
    model = made("Funnel", pooling, backbone, tmp_path / "backbone")
    with pytest.raises(ModelError, match="a FunnelModel cannot be exported: ONNX Runtime stops at a text"):
        export_model(model, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
