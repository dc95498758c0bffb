"""Splits examples in three: to train on, to choose by, and to report on."""

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import chain

from polyencoders.data.examples import Example
from polyencoders.errors import DataError


@dataclass(frozen=True, slots=True)
class Splits:
    """Examples to train on, to choose settings and checkpoints by, and to report on once.

    `corpus` holds the documents that every query ranks, where the set has such a list.

    >>> Splits(train=[Example("a", "b")], validation=[], test=[])
    Splits(train=1, validation=0, test=0)
    """

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    corpus: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Splits(train={len(self.train)}, validation={len(self.validation)}, test={len(self.test)})"


def split_examples(
    examples: Sequence[Example],
    validation: float = 0.1,
    test: float = 0.0,
    seed: int = 0,
    together: Sequence[int] | None = None,
) -> Splits:
    """Splits examples at random so that no query, or no conversation, is on two splits.

    Examples whose queries are the same text (ignoring case and white space) go to the same split. Answers may be on
    several: in many data sets (a FAQ, intents) a few answers serve every query, and training must show them all.

    `validation` and `test` are the fractions of the examples to put there: 0 or more, together less than 1; above 0 at
    least one query. Each split keeps the order of the examples. The same seed and examples give the same splits, on any
    machine. `together` has for each example the number of its group, such as its conversation: a group goes to one
    split; with None, examples with the same query are a group. A DataError says that the fractions make no sense, or
    that there are fewer groups than splits.

    >>> split_examples([Example(f"question {i}", "yes") for i in range(10)], validation=0.1, test=0.2)
    Splits(train=7, validation=1, test=2)
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise DataError(
            f"validation={validation:g} and test={test:g}: expected fractions of 0 or more, together below 1"
        )
    groups: dict[Hashable, list[int]] = {}
    for i, example in enumerate(examples):
        key = tuple(" ".join(turn.casefold().split()) for turn in example.query) if together is None else together[i]
        groups.setdefault(key, []).append(i)
    wanted = 1 + (validation > 0) + (test > 0)
    if len(groups) < wanted:
        what = "distinct queries" if together is None else "conversations"
        raise DataError(f"too few examples to split into {wanted} parts: {len(groups)} {what}")

    queue = list(groups.values())
    random.Random(seed).shuffle(queue)

    def take(fraction: float, leave: int) -> list[Example]:
        """Takes whole groups from the end of the queue until the fraction is reached. Leaves some for other splits."""
        chosen: list[int] = []
        while fraction > 0 and len(queue) > leave and (not chosen or len(chosen) < round(fraction * len(examples))):
            chosen += queue.pop()
        return [examples[i] for i in sorted(chosen)]

    test_part = take(test, leave=1 + (validation > 0))
    validation_part = take(validation, leave=1)
    return Splits([examples[i] for i in sorted(chain(*queue))], validation_part, test_part)
