"""Lists of documents for a teacher to score: of each pair the right answer, hard wrong ones and random wrong ones.

A hard negative that scores above the right answer is no less welcome here: whether it is wrong, the teacher says. Knows
examples and the miner; nothing of teachers or losses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polyencoders.data import Example
from polyencoders.errors import TrainingError
from polyencoders.files import whole_file
from polyencoders.training.mining import Miner
from polyencoders.training.options import Distillation, HardNegatives
from polyencoders.training.resuming import digest


def candidate_lists(
    model: Any, examples: Sequence[Example], options: Distillation, corpus: Sequence[str] = (), seed: int = 0
) -> list[Example]:
    """One example for each pair of a query and a right answer, with as many negatives as the options ask for.

    Parameters
    ----------
    model
        The bi- or poly-encoder that hard negatives are mined with.
    examples
        Queries with right answers; their own negatives come first.
    options
        How many hard ones and random ones.
    corpus
        More documents to find them in, beside the examples' right answers.
    seed
        Of what is drawn.

    Returns
    -------
    list of Example
        All with `options.negatives` negatives; no right answer of the query is among them.

    Raises
    ------
    TrainingError
        The model reads pairs and cannot search, or there are too few documents.
    """
    hard = options.hard_negatives if isinstance(options.hard_negatives, HardNegatives) else None
    # Without hard ones the miner only says what is right and what there is.
    miner = Miner(model, examples, hard or HardNegatives(number=1), corpus, seed)
    mined = miner.mine() if hard is not None else {}
    lists = []
    for row, (example, positive) in enumerate((one, answer) for one in examples for answer in one.positives):
        right = miner.right[example.query]
        chosen = [text for text in example.negatives if text not in right]
        chosen += mined.get((example.query, positive), [])
        chosen = list(dict.fromkeys(chosen))[: options.negatives]
        missing = options.negatives - len(chosen)
        chosen += miner.others(example.query, chosen, missing, np.random.default_rng((seed, row)))
        lists.append(Example(example.query, positive, chosen))
    return lists


def kept_lists(
    file: Path, model: Any, examples: Sequence[Example], options: Distillation, corpus: Sequence[str], seed: int
) -> list[Example]:
    """`candidate_lists`, or those a file keeps: a run that goes on has the lists of one that never stopped.

    They depend on the model as it came, which by then may have other new weights.
    """
    asked = [[list(one.query), list(one.positives), list(one.negatives)] for one in examples]
    of = digest([asked, list(corpus), repr(options), seed])
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["of"] == of:
            documents = kept["documents"]
            pairs = [(example.query, answer) for example in examples for answer in example.positives]
            return [
                Example(query, answer, [documents[place] for place in places])
                for (query, answer), places in zip(pairs, kept["negatives"], strict=True)
            ]
        raise TrainingError(
            f"{file.parent} holds the lists of an interrupted run with other data or options: run it again as it was "
            "to finish it, choose another folder, or delete that one"
        )
    lists = candidate_lists(model, examples, options, corpus, seed)
    places = {text: place for place, text in enumerate(dict.fromkeys(text for one in lists for text in one.negatives))}
    with whole_file(file) as scratch:
        content = {
            "of": of,
            "documents": list(places),
            "negatives": [[places[text] for text in one.negatives] for one in lists],
        }
        scratch.write_text(json.dumps(content), encoding="utf-8")
    return lists
