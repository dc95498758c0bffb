"""What the readers of data sets share: a source of examples, the files of its splits, and turns as examples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from polyencoders.data.examples import Example
from polyencoders.data.lines import located
from polyencoders.data.splits import Splits, split_examples
from polyencoders.errors import DataError

if TYPE_CHECKING:
    from polyencoders.data.beir import Retrieval

Split = Literal["train", "validation", "test"]

NO_TRAINING = "no training side, only examples to test with: train on other data, and give these to `evaluate`"
NO_VALIDATION = (
    "no validation side, only examples to test with: what is chosen on these looks better on them than it is; choose "
    "on other data, and give these to `evaluate`"
)

Conversations = list[list[Example]]
"""Examples that belong together, such as those of one conversation. A conversation is never on two splits."""


@dataclass(frozen=True, slots=True)
class Source:
    """Examples as they were found: in one list, or in the set's own splits.

    `together` has the number of each example's conversation, if any (see `split_examples`). `corpus` holds the
    documents that every query ranks, where the set has such a list. `judged` is the set by its ids, where it has
    judgements.
    """

    examples: list[Example]
    splits: Splits | None = None
    together: Sequence[int] | None = None
    corpus: tuple[str, ...] = ()
    judged: "Retrieval | None" = None

    @classmethod
    def of(cls, conversations: Conversations) -> "Source":
        """Makes a source without splits, whose conversations stay whole."""
        together = [number for number, examples in enumerate(conversations) for _ in examples]
        return cls(list(chain.from_iterable(conversations)), together=together)

    def split(self, validation: float = 0.1, test: float = 0.1, seed: int = 0) -> Splits:
        """Returns the source's own splits, or draws them at random (see `split_examples`)."""
        drawn = self.splits or split_examples(self.examples, validation, test, seed, self.together)
        return replace(drawn, corpus=self.corpus)

    def examples_of(self, split: Split) -> list[Example]:
        """Returns one of the source's own splits, or all examples where it has none; an empty one is a DataError."""
        found: list[Example] = self.examples if self.splits is None else getattr(self.splits, split)
        if not found:
            if split == "train":
                raise DataError(NO_TRAINING)
            if split == "validation" and self.splits is not None and self.splits.test:
                raise DataError(NO_VALIDATION)
            raise DataError(f"no {split} examples")
        return found


def with_validation(
    path: Path, train: Source, validation: list[Example] | None, test: list[Example] | None, seed: int
) -> Source:
    """Makes a source with a set's own splits.

    `test` is None where the test split is not public: figures are reported on the validation split, so it becomes the
    test split. When the validation split is missing or has become the test split, a tenth of `train`, chosen by `seed`,
    is held out in its place. A DataError names `path`, where `train` was read, when that is too small for it.
    """
    if test is None:
        test, validation = validation, None
    if validation is not None:
        return Source([], Splits(train.examples, validation, test or []))
    with located(path):
        return Source([], replace(train.split(validation=0.1, test=0.0, seed=seed), test=test or []))


def read_splits(
    path: Path, names: Mapping[Split, Sequence[str]], read: Callable[[Path], Source], seed: int = 0
) -> Source:
    """Reads a set from a folder with a file for each split, or from a single file.

    `names` has for each split the patterns of its file's name (``"*train*.txt"``), the best first. There must be a
    training file, and one of the others. `read` reads one file; `seed` is as in `with_validation`.
    """
    if not path.is_dir():
        return read(path)
    files = {split: split_file(path, patterns) for split, patterns in names.items()}
    for what, splits in (("training", ["train"]), ("validation or test", ["validation", "test"])):
        if not any(file for split, file in files.items() if split in splits):
            expected = [pattern for split, patterns in names.items() if split in splits for pattern in patterns]
            raise DataError(f"{path}: no {what} data, expected a file such as {' or '.join(expected[:6])}")
    found = {split: read(file) for split, file in files.items() if file is not None}
    validation, test = (found[name].examples if name in found else None for name in ("validation", "test"))
    return with_validation(files["train"] or path, found["train"], validation, test, seed)


def read_folders(path: Path, read: Callable[[Path], Source], seed: int) -> Source:
    """Reads a set from a folder with the folders ``train``, ``dev`` and ``test``, or from one of these."""
    if not (path / "train").is_dir():
        return read(path)
    train, validation, test = (read(path / split) for split in ("train", "dev", "test"))
    return with_validation(path / "train", train, validation.examples, test.examples, seed)


def split_file(folder: Path, patterns: Sequence[str]) -> Path | None:
    """Returns the file that matches the first pattern to match any, plain or gzipped; several are a DataError."""
    for pattern in patterns:
        paths = sorted({*folder.glob(pattern), *folder.glob(f"{pattern}.gz")})
        if len(paths) > 1:
            raise DataError(
                f"{folder}: {len(paths)} files match {pattern}, expected one: {', '.join(path.name for path in paths)}"
            )
        if paths:
            return paths[0]
    return None


def turns_as_examples(conversations: Sequence[Sequence[str]], turns: int = 3) -> Conversations:
    """Makes every turn but the first an answer to the turns before it, at most `turns` of them."""
    check_turns(turns)
    return [[Example(said[max(0, i - turns) : i], said[i]) for i in range(1, len(said))] for said in conversations]


def check_turns(turns: int) -> None:
    if turns < 1:
        raise DataError(f"turns={turns}: expected 1 or more turns before the answer")
