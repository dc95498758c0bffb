"""A backbone with the two heads of pre-training: masked tokens, and whether an utterance follows a context."""

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from polyencoders.errors import ModelError

logger = logging.getLogger(__name__)


class PretrainingModel(nn.Module):
    """`loss = CE(masked tokens) + BCE(w . h_1 + b, follows)` (Humeau et al. 2020, section 4.1; Devlin et al. 2018).

    `h_1..h_N` are the encoder's outputs for (context, utterance) with some tokens masked. The head for masked tokens is
    transformers' own for the backbone's family (`masked_lm`); the other is a linear map of the first output.
    """

    def __init__(self, masked_lm: Any) -> None:
        super().__init__()
        self.masked_lm = masked_lm
        self.follows = nn.Linear(masked_lm.config.hidden_size, 1)

    @property
    def encoder(self) -> Any:
        """The encoder without heads, which is what is saved."""
        return self.masked_lm.base_model

    def forward(self, labels: Tensor, follows: Tensor, **tokens: Tensor) -> dict[str, Tensor]:
        """Returns the loss for tokens `(b, t)` and, for each pair, what validation reports.

        `labels` `(b, t)` are the tokens to predict, -100 elsewhere; `follows` `(b,)` is 1 for true next utterances.
        Returned are `loss`, `next_logits` `(b,)`, and `masked_loss` and `masked` `(b,)`: the summed loss and the number
        of masked tokens.
        """
        masked = labels != -100
        firsts: list[Tensor] = []

        def keep_masked(module: nn.Module, given: Any, output: Any) -> Any:
            # The head would multiply each token with the whole vocabulary, so the six of seven that are not predicted
            # are dropped before it.
            firsts.append(output[0][:, 0])
            output["last_hidden_state"] = output[0][masked][None]
            return output

        hook = self.encoder.register_forward_hook(keep_masked)
        try:
            logits = self.masked_lm(**tokens).logits[0]
        finally:
            hook.remove()
        token_losses = functional.cross_entropy(logits.float(), labels[masked], reduction="none")
        next_logits = self.follows(firsts[0])[:, 0].float()
        next_loss = functional.binary_cross_entropy_with_logits(next_logits, follows.float())
        rows = masked.nonzero()[:, 0]
        per_pair = torch.zeros(len(labels), device=labels.device).index_add(0, rows, token_losses.detach())
        return {
            # A small batch may have no masked token at all.
            "loss": token_losses.sum() / max(1, len(token_losses)) + next_loss,
            "next_logits": next_logits,
            "masked_loss": per_pair,
            "masked": masked.sum(1).float(),
        }


def load_for_pretraining(backbone: str, from_scratch: bool = False) -> tuple[PretrainingModel, Any]:
    """Returns a backbone (a directory or a hub name) with both heads, and its tokeniser.

    With `from_scratch` the weights are new. Raises a `ModelError` where it cannot be loaded, or where its family has no
    head for masked tokens or its tokeniser no mask token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(backbone)
        config = AutoConfig.from_pretrained(backbone)
    except (OSError, ValueError) as error:
        raise ModelError(f"{backbone}: no backbone could be loaded from there ({error})") from error
    advice = "choose an encoder pre-trained by it, such as BERT, RoBERTa or MiniLM"
    if tokenizer.mask_token is None:
        raise ModelError(
            f"the tokeniser of {backbone} has no mask token, which masked language modelling needs: {advice}"
        )
    if type(config) not in AutoModelForMaskedLM._model_mapping:
        raise ModelError(
            f"{backbone} is of the family {config.model_type}, for which transformers has no masked-language-modelling "
            f"head: {advice}"
        )
    if from_scratch:
        return PretrainingModel(AutoModelForMaskedLM.from_config(config, dtype=torch.float32)), tokenizer
    model, loading = AutoModelForMaskedLM.from_pretrained(backbone, dtype=torch.float32, output_loading_info=True)
    lacking = sorted(name for name in loading["missing_keys"] if not name.startswith(f"{model.base_model_prefix}."))
    if lacking:
        # The output matrix is tied to the embeddings: a new one would have to be learnt from nothing.
        model.config.tie_word_embeddings = True
        model.tie_weights()
        logger.warning(
            "%s ships without its masked-language-modelling head (%s): a new one is trained, its output matrix tied to "
            "the token embeddings",
            backbone,
            ", ".join(lacking),
        )
    return PretrainingModel(model), tokenizer
