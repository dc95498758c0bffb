"""What a source of examples holds: sides of its own, or one list; and how a folder's files are told apart by name.

Knows nothing of any format: each reader says how its files are called and how one is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from polyencoders.data.examples import Example
from polyencoders.data.splits import Splits, split_examples
from polyencoders.errors import DataError

Side = Literal["train", "validation", "test"]

Conversations = list[list[Example]]
"""Examples that belong together, such as the turns of one conversation: they are never on two sides."""


@dataclass(frozen=True, slots=True)
class Source:
    """Examples as they were found.

    Attributes
    ----------
    examples
        All of them; none, where there are sides.
    sides
        The set's own split into training, validation and test, where it has one.
    together
        For each example the number of its conversation, which is never on two sides. None: examples with the same
        query stay together (see `split_examples`).
    corpus
        The documents that every query ranks, where the set has such a list: one tuple, whatever the number of queries.
    """

    examples: list[Example]
    sides: Splits | None = None
    together: Sequence[int] | None = None
    corpus: tuple[str, ...] = ()

    @classmethod
    def of(cls, conversations: Conversations, corpus: tuple[str, ...] = ()) -> Source:
        """A source without sides, whose conversations stay whole.

        >>> Source.of([[Example("Hi!", "Tea?"), Example(["Hi!", "Tea?"], "Please.")], [Example("Oi!", "?")]]).together
        [0, 0, 1]
        """
        together = [number for number, examples in enumerate(conversations) for _ in examples]
        return cls(list(chain.from_iterable(conversations)), together=together, corpus=corpus)

    def split(self, validation: float = 0.1, test: float = 0.1, seed: int = 0) -> Splits:
        """The source's own sides; where it has none, shares drawn at random (see `split_examples`)."""
        if self.sides is not None:
            return self.sides
        drawn = split_examples(self.examples, validation, test, seed, self.together)
        return Splits(drawn.train, drawn.validation, drawn.test, self.corpus)

    def side(self, side: Side) -> list[Example]:
        """One of the source's own sides; where it has none, everything."""
        return self.examples if self.sides is None else getattr(self.sides, side)


def with_validation(
    train: Source,
    validation: list[Example] | None,
    test: list[Example] | None,
    seed: int = 0,
    corpus: tuple[str, ...] = (),
) -> Source:
    """A source with a set's own sides; what is missing is taken from the training side, never from the test side.

    Parameters
    ----------
    train
        What to train on.
    validation
        None, or used as the test side: a tenth of `train` is held out instead.
    test
        None where none is public: then figures are reported on the validation side, and so it is the test side here.
    seed
        Chooses what is held out.
    corpus
        See `Source`.

    Raises
    ------
    DataError
        When `train` is too small to hold anything out.
    """
    if test is None:
        test, validation = validation, None
    training = train.examples
    if validation is None:
        drawn = train.split(validation=0.1, test=0.0, seed=seed)
        training, validation = drawn.train, drawn.validation
    return Source([], Splits(training, validation, test or [], corpus), corpus=corpus)


def read_sides(
    folder: Path,
    names: Mapping[Side, Sequence[str]],
    read: Callable[[Path], Source],
    seed: int = 0,
    corpus: tuple[str, ...] = (),
) -> Source:
    """Reads the sides of a set from a folder with a file, or a folder, for each.

    Parameters
    ----------
    folder
        Where they are.
    names
        For each side how its file is called, as patterns (``"*train*.txt"``), the best first; it may be gzipped. The
        training side must be there, and one of the others.
    read
        Reads one of them.
    seed, corpus
        See `with_validation`.

    Raises
    ------
    DataError
        When the training file, or both of the others, are missing; when several files might be one of them.
    """
    files = {side: side_file(folder, patterns) for side, patterns in names.items()}
    for what, sides in (("training", ["train"]), ("validation or test", ["validation", "test"])):
        if not any(file for side, file in files.items() if side in sides):
            expected = [pattern for side, patterns in names.items() if side in sides for pattern in patterns]
            raise DataError(f"{folder}: no {what} data, expected a file such as {' or '.join(expected)}")
    found = {side: read(file) for side, file in files.items() if file is not None}
    try:
        return with_validation(
            found["train"],
            found["validation"].examples if "validation" in found else None,
            found["test"].examples if "test" in found else None,
            seed,
            corpus,
        )
    except DataError as error:
        raise DataError(f"{files['train']}: {error}") from None


def side_file(folder: Path, patterns: Sequence[str]) -> Path | None:
    """The file that the first pattern to match any matches; also if it is gzipped.

    Raises
    ------
    DataError
        When the pattern matches several.
    """
    for pattern in patterns:
        paths = sorted({*folder.glob(pattern), *folder.glob(f"{pattern}.gz")})
        if len(paths) > 1:
            raise DataError(
                f"{folder}: {len(paths)} files match {pattern}, expected one: {', '.join(path.name for path in paths)}"
            )
        if paths:
            return paths[0]
    return None
