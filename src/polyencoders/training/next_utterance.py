"""The data of pre-training: pairs of a context and an utterance that follows it, or does not, with tokens masked.

What is drawn at place k of a run depends only on the seed and k, so an interrupted run goes on with the same pairs.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import DataCollatorForLanguageModeling

from polyencoders.encoders.queries import cut
from polyencoders.errors import TrainingError

IGNORED = -100  # The label of a token that is not predicted


class NextUtterancePairs(Dataset[dict[str, Any]]):
    """Pairs (context, utterance); every second has the true next utterance (Humeau et al. 2020, section 4.1).

    The others have an utterance of a random place in the data, never one of the same words as the true one. In each
    epoch every turn, except the first of a conversation, is a true next utterance once, in a new order.

    `max_length` is the most tokens of a pair, and contexts are cut at their oldest end. `size` is the number of pairs
    of the whole run. Raises a `TrainingError` where no turn follows another, or all that do have the same words.
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
        if len({words(conversations[i][turn]) for i, turn in self.places}) < 2:
            raise TrainingError("next-utterance prediction needs conversations with two different replies at least")
        self.separator = f" {tokenizer.sep_token} " if tokenizer.sep_token else " "
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return self.size

    def pair(self, k: int) -> tuple[list[str], str, bool]:
        """Returns the k-th context (turns), its utterance, and whether the utterance follows the context."""
        epoch, place = divmod(k, len(self.places))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(_seed_of(self.seed, "order", epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.places), generator=generator)
        i, turn = self.places[int(self._order[place])]
        context, utterance = list(self.conversations[i][:turn]), self.conversations[i][turn]
        # By the place, so that each batch has as many true pairs as others.
        if follows := k % 2 == 0:
            return context, utterance, follows
        rng = random.Random(_seed_of(self.seed, "utterance", k))
        while True:
            other, other_turn = self.places[rng.randrange(len(self.places))]
            candidate = self.conversations[other][other_turn]
            if words(candidate) != words(utterance):
                return context, candidate, follows

    def __getitem__(self, k: int) -> dict[str, Any]:
        """Returns the k-th pair as tokens, with `special_tokens_mask`, `follows` (1.0 or 0.0) and `place` (k)."""
        if not 0 <= k < self.size:
            raise IndexError(k)
        context, utterance, follows = self.pair(k)
        room = self.max_length - self.tokenizer.num_special_tokens_to_add(pair=True)
        # At least half of the room is kept for the context's newest words.
        utterance = cut(self.tokenizer, utterance, room // 2, keep="oldest")
        used = len(self.tokenizer(utterance, add_special_tokens=False)["input_ids"])
        # A turn has at least one token, so older turns than these cannot fit.
        text = cut(self.tokenizer, self.separator.join(context[-room:]), room - used, keep="newest")
        encoded = self.tokenizer(text, utterance, truncation="only_first", max_length=self.max_length)
        special = set(self.tokenizer.all_special_ids)
        encoded["special_tokens_mask"] = [int(token in special) for token in encoded["input_ids"]]
        return {**encoded, "follows": float(follows), "place": k}


class MaskingCollator(DataCollatorForLanguageModeling):
    """Batches with 15% of the tokens to predict: 80% masked, 10% random, 10% unchanged (Devlin et al. 2018).

    Unlike in transformers' own collator, the masks depend only on the seed and the batch's place, and separators of
    turns, which are special tokens inside the text, are never masked.
    """

    def __init__(self, tokenizer: Any, seed: int = 0) -> None:
        super().__init__(tokenizer, mlm=True, mlm_probability=0.15)
        self.run_seed = seed

    def torch_call(self, examples: list[Any]) -> dict[str, Any]:
        """Returns padded tensors, `labels` (`IGNORED` where nothing is predicted) and `follows` for some pairs."""
        self.generator = torch.Generator().manual_seed(_seed_of(self.run_seed, "mask", examples[0]["place"]))
        follows = torch.tensor([example["follows"] for example in examples])
        tokens: list[Any] = [{name: row[name] for name in row if name not in ("follows", "place")} for row in examples]
        return {**super().torch_call(tokens), "follows": follows}


def _seed_of(seed: int, what: str, k: int) -> int:
    """Returns a seed for what is drawn at place k."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {what} {k}".encode(), digest_size=7).digest())


def words(text: str) -> str:
    """Returns a text without its case and its white space: what is the same said."""
    return " ".join(text.casefold().split())
