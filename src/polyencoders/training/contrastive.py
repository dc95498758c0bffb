"""Contrastive pre-training: a context finds its next utterance among many, so that the backbone learns what follows.

A backbone that was made for similarity finds paraphrases: to it a question's nearest reply is the same question. Here
the right document of a context is its next utterance, and the wrong ones are the batch's other utterances: of every
context, where asked for, also its own last turn (an echo) and another turn of the same conversation. The loss is
`InBatchCrossEntropy`.
"""

import json
import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback, set_seed

from polyencoders.data import Example
from polyencoders.data.sources import check_turns
from polyencoders.errors import TrainingError
from polyencoders.files import whole_directory
from polyencoders.models import BiEncoder
from polyencoders.training.options import TrainingOptions
from polyencoders.training.pretraining import PARTS_OF_A_BACKBONE
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
    with whole_directory(folder, replaced=PARTS_OF_A_BACKBONE.fullmatch) as scratch:
        plain.save_pretrained(str(scratch))
        record = {
            "objective": "contrastive",
            "hard_negatives": hard_negatives,
            "options": asdict(options),
            **asdict(result),
        }
        (scratch / "pretraining.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
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
    check_turns(turns)
    rng = random.Random(seed)
    examples = []
    for said in conversations:
        for i in range(1, len(said)):
            if not hard_negatives:
                examples.append(Example(said[max(0, i - turns) : i], said[i]))
                continue
            others = [turn for place, turn in enumerate(said) if place not in (i - 1, i) and not _same(turn, said[i])]
            wrong = [] if _same(said[i - 1], said[i]) else [said[i - 1]]
            wrong += [rng.choice(others)] if others else []
            examples.append(Example(said[max(0, i - turns) : i], said[i], wrong))
    return examples


def _same(one: str, other: str) -> bool:
    return one.casefold().split() == other.casefold().split()
