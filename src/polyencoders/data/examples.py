"""An example: a query, its right answers, and what to rank them against. Checks it, and makes a trainer's table."""

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polyencoders.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    import datasets

Query = str | Sequence[str]  # A text, or the turns of a conversation, oldest first

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_REPR.maxlist = _REPR.maxdict = 3


def shortened(value: object) -> str:
    """Returns a value's `repr`, cut to fit into one line of an error message."""
    return _REPR.repr(value)


@dataclass(frozen=True, slots=True, init=False)
class Example:
    """A query and the documents that answer it, optionally with wrong documents and a list to rank.

    A single text becomes a tuple of one text. Documents given twice are kept once. Texts stay as they are.

    Parameters
    ----------
    query
        A text, or the turns of a conversation, oldest first.
    positives
        The right answer, or several.
    negatives
        Documents known to be wrong for this query (hard negatives), for training.
    candidates
        The list to rank when evaluating. It must hold at least one of the positives.

    Raises
    ------
    DataError
        A text is empty, white space, not text, or not valid Unicode; there is no positive; a positive is also a
        negative; the candidates lack the right answer.

    Examples
    --------
    >>> Example(["Hi!", "How are you?"], "Fine, and you?").positives
    ('Fine, and you?',)
    >>> Example("Who?", positives=" ")
    Traceback (most recent call last):
    polyencoders.errors.DataError: positive: the text is empty, given ' '
    """

    query: tuple[str, ...]
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    candidates: tuple[str, ...] | None

    def __init__(
        self,
        query: Query,
        positives: str | Sequence[str],
        negatives: str | Sequence[str] = (),
        candidates: Sequence[str] | None = None,
    ) -> None:
        turns = text_or_texts("query", "turn", query)
        right = tuple(dict.fromkeys(text_or_texts("positive", "text", positives)))
        wrong = tuple(dict.fromkeys(text_or_texts("negative", "text", negatives)))
        listed = None if candidates is None else tuple(dict.fromkeys(text_or_texts("candidates", "text", candidates)))
        if not turns:
            raise DataError("query: an empty list of turns, expected at least one")
        if not right:
            raise DataError("positive: an empty list, expected at least one right answer")
        for text in right:
            if text in wrong:
                raise DataError(f"the same text is both a positive and a negative: {shortened(text)}")
        if listed is not None and not any(text in right for text in listed):
            raise DataError(
                f"candidates lack the right answer: none of the {len(listed)} equals {shortened(right[0])}"
                + (f" or another of the {len(right)} positives" if len(right) > 1 else "")
            )
        for name, value in (("query", turns), ("positives", right), ("negatives", wrong), ("candidates", listed)):
            object.__setattr__(self, name, value)  # the only way to set a field of a frozen dataclass


def text_or_texts(field: str, part: str, value: object) -> tuple[str, ...]:
    """Checks a text or a list of texts. Errors name the field and, in a list, the number of the text."""
    if isinstance(value, str):
        check_text(field, value)
        return (value,)
    if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray):
        raise DataError(f"{field}: expected text or a list of texts, given {_kind(value)}")
    for number, text in enumerate(value, start=1):
        check_text(f"{field}, {part} {number} of {len(value)}", text)
    return tuple(value)


def check_text(label: str, text: object) -> None:
    """Raises a DataError that begins with the label, unless the text is non-empty, valid Unicode."""
    if not isinstance(text, str):
        raise DataError(f"{label}: expected text, given {_kind(text)}")
    if not text or text.isspace():
        raise DataError(f"{label}: the text is empty, given {shortened(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON may hold half a surrogate pair ("\\ud800"), on which tokenisers crash later
        raise DataError(f"{label}: not valid Unicode (half a surrogate pair), given {shortened(text)}") from None


def _kind(value: object) -> str:
    return "nothing (null)" if value is None else f"{type(value).__name__} {shortened(value)}"


def right_answers(examples: Iterable[Example]) -> dict[tuple[str, ...], list[str]]:
    """Collects all right answers of each distinct query, from all of its examples, in order of appearance."""
    answers: dict[tuple[str, ...], dict[str, None]] = {}
    for example in examples:
        answers.setdefault(example.query, {}).update(dict.fromkeys(example.positives))
    return {query: list(right) for query, right in answers.items()}


def class_names(*splits: Iterable[Example]) -> tuple[str, ...]:
    """Returns the distinct names of classes in alphabetical order: the list that every text ranks.

    >>> class_names([Example("Where is my card?", "card arrival")], [Example("Is it open?", "opening hours")])
    ('card arrival', 'opening hours')
    """
    return tuple(sorted({name for examples in splits for example in examples for name in example.positives}))


def training_dataset(examples: Sequence[Example]) -> "datasets.Dataset":
    """Makes the table that a sentence-transformers trainer takes: one row for each positive.

    Its columns are ``query`` (always a list of turns), ``positive`` (text) and ``negative_1`` to ``negative_k``, where
    k is the largest number of negatives that an example has. Others have empty texts in their place, which the losses
    of this package leave out. Raises a DataError when there are no examples, a MissingExtraError when ``datasets`` is
    not installed.

    >>> table = training_dataset([Example("Two?", ["2", "two"], negatives=["3"])])
    >>> table.column_names, table[1]["positive"]
    (['query', 'positive', 'negative_1'], 'two')
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise MissingExtraError("datasets", "train") from None

    if not examples:
        raise DataError("no examples to train on")
    rows = [(example, positive) for example in examples for positive in example.positives]
    columns: dict[str, list[Any]] = {
        "query": [list(example.query) for example, _ in rows],
        "positive": [positive for _, positive in rows],
    }
    for i in range(max(len(example.negatives) for example in examples)):
        columns[f"negative_{i + 1}"] = ["".join(example.negatives[i : i + 1]) for example, _ in rows]
    return datasets.Dataset.from_dict(columns)
