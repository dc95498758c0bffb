"""Which columns of a table are the query, the right answer, wrong ones and the label; and its rows as examples.

Columns are named (`query=question,positive=answer`) or guessed by names that are common, which a warning then says. A
label of 0 or 1 says whether a pair is right; a wrong one is a negative of its query. A label that is a name is a class:
the text's right answer is the name of its class.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import check_object, did_you_mean, item, located
from polyencoders.data.records import as_text
from polyencoders.errors import DataError

logger = logging.getLogger(__name__)

COMMON: dict[str, tuple[str, ...]] = {
    "query": (
        *("query", "question", "anchor", "sentence1", "text1", "context", "utterance", "prompt", "instruction"),
        "input",
    ),
    "positive": (
        *("positive", "positives", "pos", "answer", "answers", "response", "reply", "document", "passage"),
        *("sentence2", "text2", "completion", "output"),
    ),
    "negative": ("negative", "negatives", "neg", "hard_negative"),
    "label": ("label", "score", "similarity", "relevance"),
}
"""Names of columns by which roles are guessed, the surest first. Case does not matter."""
TEXTS = ("text", "sentence", *COMMON["query"])
CLASSES = ("label", "category", "intent", "class", "label_text")
DOCUMENTS = ("text", "document", "answer", "passage", "content", "body", "positive", "response", "reply")
"""Names of the column that holds the text of a document, the surest first."""
_HOW_OF_LABELS = (
    "label={label}>=NUMBER says from where on a pair is right; query={query},positive={positive} alone takes all for "
    "right; grades as they are train by CoSENTLoss, in Python (docs/training.md)"
)
HOW = "say which is which: query=COLUMN,positive=COLUMN, and perhaps negative=COLUMN and label=COLUMN"

_RIGHT = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False, "yes": True, "no": False}


@dataclass(frozen=True)
class Columns:
    """The roles of a table's columns.

    >>> Columns.of(["id", "Question", "Answer"])
    Columns(query='Question', positive='Answer', negatives=(), label=None, least=None, is_class=False)
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    label: str | None = None
    least: float | None = None  # The lowest label that is right; None: labels are 0 and 1
    is_class: bool = False  # Whether the positive is the name of a class

    @classmethod
    def of(cls, names: Sequence[str], asked: Mapping[str, str] | None = None, two: bool = False) -> "Columns":
        """Finds the roles of columns, as `asked` or else by common names; a DataError where it cannot tell.

        With `two`, the two columns of a table are texts and the names of their classes, however they are called.
        """
        asked = dict(asked or {})
        given, _, least = (part.strip() for part in asked.pop("label", "").partition(">="))
        label: str | None = given or None
        for column in filter(None, [given, *asked.values()]):
            if column not in names:
                raise DataError(
                    f'no column "{column}"{did_you_mean(column, names)}; given only {shortened(list(names))}'
                )
        by_name = {name.strip().casefold(): name for name in names}

        def guessed(common: Iterable[str], taken: Collection[str | None] = ()) -> str | None:
            return next((by_name[name] for name in common if name in by_name and by_name[name] not in taken), None)

        query = asked.get("query") or guessed(COMMON["query"], [asked.get("positive"), label])
        positive = asked.get("positive") or guessed(COMMON["positive"], [query, label])
        numbered = [by_name[name] for name in by_name if name.startswith("negative_") and name[9:].isdecimal()]
        negative = asked.get("negative") or (guessed(COMMON["negative"]) if "positive" not in asked else None)
        negatives = tuple(filter(None, [negative])) or (tuple(numbered) if "positive" not in asked else ())
        if query is not None and positive is not None:
            if not label and "positive" not in asked:
                label = guessed(COMMON["label"], [query, positive, *negatives])
            return cls(query, positive, negatives, label, _number(least) if least else None)
        text, name = asked.get("query") or guessed(TEXTS), label or guessed(CLASSES)
        if text is not None and name is not None and text != name:
            return cls(text, name, is_class=True)
        if two and len(names) == 2:
            return cls(names[0], names[1], is_class=True)
        raise DataError(f"cannot tell the query and its right answer by the columns {shortened(list(names))}: {HOW}")

    def said(self, names: Iterable[str]) -> str:
        """Says in one line what was guessed."""
        roles = {"query": self.query, "class" if self.is_class else "positive": self.positive}
        roles |= {"negative": ", ".join(self.negatives)} if self.negatives else {}
        roles |= {"label": self.label} if self.label else {}
        unread = [name for name in names if name not in (self.query, self.positive, self.label, *self.negatives)]
        others = f"; not read: {', '.join(unread)}" if unread else ""
        return ", ".join(f"{role} is {column!r}" for role, column in roles.items()) + others

    def examples(self, rows: Iterable[tuple[object, Mapping[str, Any]]]) -> list[Example]:
        """Makes examples of rows, each with its place for errors.

        Where there are labels, a query's rows are one example. Queries without a right answer are left out, and a
        warning says how many.
        """
        found: list[Example] = []
        judged: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}
        for place, row, example in self._usable(rows):
            if self.label is None:
                found.append(example)
                continue
            # A grade is a fault of the column: without such rows, those graded 1 of 5 would be the right ones.
            with (located if self._is_grade(row.get(self.label)) else item)(place):
                is_right = self._is_right(row.get(self.label))
                right, wrong = judged.setdefault(example.query, ([], []))
                (right if is_right else wrong).extend(example.positives)
                wrong.extend(example.negatives)
        unanswered = 0
        for query, (right, wrong) in judged.items():
            if right:
                found.append(Example(query, right, [text for text in wrong if text not in right]))
            else:
                unanswered += 1
        if unanswered:
            logger.warning("%d of %d queries have no right answer, and are left out", unanswered, len(judged))
        return found

    def _usable(
        self, rows: Iterable[tuple[object, Mapping[str, Any]]]
    ) -> Iterator[tuple[object, Mapping[str, Any], Example]]:
        for place, row in rows:
            with item(place):
                check_object(row, "a query and its right answer")
                yield place, row, self._example(row)

    def _example(self, row: Mapping[str, Any]) -> Example:
        query, positive = _texts(row.get(self.query)), _texts(row.get(self.positive))
        if self.is_class:
            positive = _class_name(positive)
        negatives = [text for name in self.negatives for text in _listed(_texts(row.get(name)))]
        return Example(query, positive, negatives)

    def _is_grade(self, value: Any) -> bool:
        try:
            return self.least is None and float(value) not in (0, 1) and float(value) == float(value)
        except (TypeError, ValueError):
            return False

    def _is_right(self, value: Any) -> bool:
        if self.least is not None:
            return _number(value) >= self.least
        right = _RIGHT.get(str(value).strip().casefold())
        if right is None:
            raise DataError(
                f"{self.label}: expected 0 or 1, given {shortened(value)}: what is trained on, and ranked, is right or "
                f"wrong. {_HOW_OF_LABELS.format(label=self.label, query=self.query, positive=self.positive)}"
            )
        return right


def parse_columns(given: str | None) -> dict[str, str] | None:
    """Reads which column has which role, as the command line takes it.

    >>> parse_columns("query=question,positive=answer,label=score>=4")
    {'query': 'question', 'positive': 'answer', 'label': 'score>=4'}
    """
    if given is None:
        return None
    roles: dict[str, str] = {}
    for part in given.split(","):
        role, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not column or role not in COMMON or role in roles:
            raise DataError(f"columns: {shortened(part)}: {HOW}, each once")
        roles[role] = column
    return roles


def document_column(names: Sequence[str], only: bool = True) -> str:
    """Returns the column that holds documents' texts: one with a common name, or with `only` the only one.

    >>> document_column(["id", "answer"])
    'answer'
    """
    by_name = {name.strip().casefold(): name for name in names}
    found = next(
        (by_name[name] for name in DOCUMENTS if name in by_name), names[0] if only and len(names) == 1 else None
    )
    if found is None:
        given = f"given only {shortened(list(names))}"
        raise DataError(f'no "text" field{did_you_mean("text", names)}; {given}: say which one holds the text')
    return found


def _texts(value: Any) -> Any:
    """Returns a text, or a list of them, out of what tables hold.

    These are numpy's arrays, numbers, no number for nothing, and objects with the text in `text` or `content`, such as
    SQuAD's answers or a chat's messages.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    value = [_inner(one) for one in value] if isinstance(value, list) else _inner(value)
    if isinstance(value, float) and value != value:
        return None
    return as_text(value)


def _inner(value: Any) -> Any:
    names = [name for name in ("text", "content") if name in value] if isinstance(value, dict) else []
    return value[names[0]] if names else value


def _listed(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _class_name(value: Any) -> Any:
    """Returns a class's name as people write it, or those of a list; a number is none."""
    if isinstance(value, list):
        return [_class_name(one) for one in value]
    if not isinstance(value, str):
        return value
    if value.strip().lstrip("-").replace(".", "", 1).isdecimal():
        raise DataError(f"the class is the number {value}, which says nothing of it: give the names of classes")
    return " ".join(value.replace("_", " ").split())


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"expected a number, given {shortened(value)}") from None
