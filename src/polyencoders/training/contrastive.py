"""Contrastive pre-training: a context finds its next utterance among many, so that the backbone learns what follows.

A backbone that was made for similarity finds paraphrases: to it a question's nearest reply is the same question. Here
the right document of a context is its next utterance, and the wrong ones are the batch's other utterances: of every
context, where asked for, also its own last turn (an echo) and another turn of the same conversation. The loss is
`InBatchCrossEntropy`.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback, set_seed

from polyencoders.data import Example
from polyencoders.data.sources import turns_as_examples
from polyencoders.errors import TrainingError
from polyencoders.models import BiEncoder
from polyencoders.training.next_utterance import words
from polyencoders.training.options import TrainingOptions
from polyencoders.training.output import save_backbone
from polyencoders.training.resume import CHECKPOINTS
from polyencoders.training.run import TrainingResult, train

Conversations = Sequence[Sequence[str]]


def pretrain_contrastive(
    conversations: Conversations,
    validation: Conversations,
    output_dir: str | os.PathLike[str],
    backbone: str,
    options: TrainingOptions | None = None,
    turns: int = 3,
    max_length: int = 128,
    hard_negatives: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainingResult:
    """Pre-train a backbone on unlabelled conversations as a bi-encoder of contexts and next utterances, and save it.

    The checkpoint with the highest MRR is kept: every held-out context ranks its next utterance among 20. An
    interrupted run, called again with the same arguments, goes on from its last checkpoint and ends the same.

    Parameters
    ----------
    conversations
        Lists of turns, oldest first.
    validation
        Other conversations, to choose the checkpoint by.
    output_dir
        Where the backbone is saved, whole or not at all, with its own pooling and normalisation, as a model of
        sentence-transformers; its checkpoints are kept there until then.
    backbone
        What to start from: the directory or the hub name of an encoder, or of a model of sentence-transformers.
    options
        Options of the run. Default: `TrainingOptions()`.
    turns
        The most turns of a context.
    max_length
        The most tokens of a context, and of an utterance.
    hard_negatives
        Whether turns of the same conversation are wrong documents, too (`next_utterances`). docs/pretraining.md says
        what they cost.
    callbacks
        `transformers` callbacks.

    Raises
    ------
    ModelError
        No backbone could be loaded.
    TrainingError
        Nothing to learn from, or checkpoints of another run.
    """
    options = options or TrainingOptions()
    folder = Path(output_dir).absolute()
    set_seed(options.seed)
    model = BiEncoder(backbone, query_length=max_length, document_length=max_length)
    examples, held_out = (
        next_utterances(talks, turns, hard, options.seed)
        for talks, hard in ((conversations, hard_negatives), (validation, False))
    )
    if len({example.positives for example in examples}) < 2:
        raise TrainingError("contrastive pre-training needs conversations with two different replies at least")
    result = train(model, examples, held_out, folder / CHECKPOINTS, options, callbacks, overwrite=True)
    transformer, *rest = model.route("document")
    for length in ("query_length", "document_length"):
        setattr(transformer, length, None)  # that of this run, not of what is built on the backbone
    plain = SentenceTransformer(
        modules=[transformer, *rest], similarity_fn_name="cosine" if model.normalize else "dot", device="cpu"
    )
    kept = {"objective": "contrastive", "hard_negatives": hard_negatives, "options": asdict(options)}
    save_backbone(folder, plain.save_pretrained, {**kept, **asdict(result)})
    return result


def next_utterances(
    conversations: Conversations, turns: int = 3, hard_negatives: bool = False, seed: int = 0
) -> list[Example]:
    """Returns an example for every turn but the first: the turns before it, and itself.

    `turns` is the most turns of a context. `hard_negatives` are the context's last turn and, where there is one, a turn
    drawn from the rest of the conversation; none has the words of the right one.

    >>> next_utterances([["Tea?", "Please.", "Here."]], hard_negatives=True)[0]
    Example(query=('Tea?',), positives=('Please.',), negatives=('Tea?', 'Here.'), candidates=None)
    """
    found = turns_as_examples(conversations, turns)
    if not hard_negatives:
        return list(chain.from_iterable(found))
    rng = random.Random(seed)
    return [
        Example(example.query, example.positives, _turns_beside(said, i, rng))
        for said, examples in zip(conversations, found, strict=True)
        for i, example in enumerate(examples, start=1)
    ]


def _turns_beside(said: Sequence[str], i: int, rng: random.Random) -> list[str]:
    """Returns the turn before the i-th and one drawn from the rest, none with the words of the i-th."""
    wrong = [(place, turn) for place, turn in enumerate(said) if words(turn) != words(said[i])]
    others = [turn for place, turn in wrong if place != i - 1]
    return [turn for place, turn in wrong if place == i - 1] + ([rng.choice(others)] if others else [])
