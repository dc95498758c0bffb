"""What pre-training reads: pairs of a context and an utterance that follows it, or does not, with tokens masked.

Knows conversations and tokenisers; nothing of models. Whatever is drawn at place k of a run is decided by the seed and
k alone, so that an interrupted run goes on with what it would have read.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import DataCollatorForLanguageModeling

from polyencoders.encoders.queries import cut
from polyencoders.errors import TrainingError

IGNORED = -100
"""The label of a token that is not to be predicted."""


class NextUtterancePairs(Dataset[dict[str, Any]]):
    """Segment pairs (context, utterance), every second with the true next utterance (Humeau et al. 2020, section 4.1).

    The others have an utterance of a random place in the data, never one of the same words as the true one. All turns
    but the first of a conversation are a true next utterance once an epoch, in an order of that epoch's own.

    Parameters
    ----------
    conversations
        Turns, the oldest first.
    tokenizer
        The backbone's.
    max_length
        Most tokens of a pair; contexts are cut from their oldest end.
    size
        How many pairs to give: those of a whole run.
    seed
        Decides all that is drawn.

    Raises
    ------
    TrainingError
        No turn follows another, or all that do say the same.
    """

    def __init__(
        self, conversations: Sequence[Sequence[str]], tokenizer: Any, max_length: int, size: int, seed: int = 0
    ) -> None:
        self.conversations = conversations
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.size = size
        self.seed = seed
        self.places = [(i, turn) for i, talk in enumerate(conversations) for turn in range(1, len(talk))]
        if len({_words(conversations[i][turn]) for i, turn in self.places}) < 2:
            raise TrainingError("next-utterance prediction needs conversations with two different replies at least")
        self.separator = f" {tokenizer.sep_token} " if tokenizer.sep_token else " "
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return self.size

    def pair(self, k: int) -> tuple[list[str], str, bool]:
        """The k-th context (turns), utterance, and whether the one follows the other."""
        epoch, place = divmod(k, len(self.places))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(drawn(self.seed, "order", epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.places), generator=generator)
        i, turn = self.places[int(self._order[place])]
        context, utterance = list(self.conversations[i][:turn]), self.conversations[i][turn]
        # By the place, which is no property of the pair: each batch has as many of the one kind as of the other.
        if follows := k % 2 == 0:
            return context, utterance, follows
        rng = random.Random(drawn(self.seed, "utterance", k))
        while True:
            other, other_turn = self.places[rng.randrange(len(self.places))]
            candidate = self.conversations[other][other_turn]
            if _words(candidate) != _words(utterance):
                return context, candidate, follows

    def __getitem__(self, k: int) -> dict[str, Any]:
        """The k-th pair as tokens, with `special_tokens_mask`, `follows` (1.0 or 0.0) and `place` (k)."""
        if not 0 <= k < self.size:
            raise IndexError(k)
        context, utterance, follows = self.pair(k)
        room = self.max_length - self.tokenizer.num_special_tokens_to_add(pair=True)
        # The context's newest words are worth at least half of the room.
        utterance = cut(self.tokenizer, utterance, room // 2, keep="oldest")
        used = len(self.tokenizer(utterance, add_special_tokens=False)["input_ids"])
        # A turn has one token at least, so no older turns than these can fit.
        text = cut(self.tokenizer, self.separator.join(context[-room:]), room - used, keep="newest")
        encoded = self.tokenizer(text, utterance, truncation="only_first", max_length=self.max_length)
        special = set(self.tokenizer.all_special_ids)
        encoded["special_tokens_mask"] = [int(token in special) for token in encoded["input_ids"]]
        return {**encoded, "follows": float(follows), "place": k}


class MaskingCollator(DataCollatorForLanguageModeling):
    """Batches with 15% of the tokens to predict: 80% of those masked, 10% random, 10% as they are (Devlin et al. 2018).

    transformers' own collator, but that what is masked depends on the seed and the place of the batch alone, and that
    separators of turns, special tokens inside the text, are never masked.
    """

    def __init__(self, tokenizer: Any, seed: int = 0) -> None:
        super().__init__(tokenizer, mlm=True, mlm_probability=0.15)
        self.run_seed = seed

    def torch_call(self, examples: list[Any]) -> dict[str, Any]:
        """Pairs of `NextUtterancePairs` to padded tensors, `labels` (`IGNORED` where nothing is masked), `follows`."""
        self.generator = torch.Generator().manual_seed(drawn(self.run_seed, "mask", examples[0]["place"]))
        follows = torch.tensor([example["follows"] for example in examples])
        tokens: list[Any] = [{name: row[name] for name in row if name not in ("follows", "place")} for row in examples]
        return {**super().torch_call(tokens), "follows": follows}


def drawn(seed: int, what: str, k: int) -> int:
    """A seed of its own for what is drawn at place k."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {what} {k}".encode(), digest_size=7).digest())


def _words(text: str) -> str:
    return " ".join(text.casefold().split())
