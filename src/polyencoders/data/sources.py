"""A data set by its name: the built-in one, or a file of the user's own.

Knows which names there are; how each is read is in ``chitchat.py`` and ``jsonl.py``.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from polyencoders.data.chitchat import chitchat
from polyencoders.data.jsonl import read_jsonl
from polyencoders.data.splits import Splits, split_examples
from polyencoders.errors import DataError

BUILT_IN = ("chitchat",)


def load_examples(source: str | os.PathLike[str], seed: int = 0) -> Splits:
    """Loads a data set, split into training (about 80%), validation and test (about 10% each).

    Parameters
    ----------
    source
        ``"chitchat"``, or the path of a JSON Lines file (see `read_jsonl`).
    seed
        Chooses the split of a file (see `split_examples`). The built-in set has one split.

    Raises
    ------
    DataError
        When `source` is neither, or the file cannot be used.

    Examples
    --------
    >>> load_examples("chitchta")
    Traceback (most recent call last):
    polyencoders.errors.DataError: chitchta: neither a file nor a built-in data set (chitchat); did you mean "chitchat"?
    """
    if source in BUILT_IN:
        return chitchat()
    if not Path(source).exists():
        match = difflib.get_close_matches(os.fspath(source), BUILT_IN, n=1)
        raise DataError(
            f"{os.fspath(source)}: neither a file nor a built-in data set ({', '.join(BUILT_IN)})"
            + (f'; did you mean "{match[0]}"?' if match else "")
        )
    examples = read_jsonl(source)
    try:
        return split_examples(examples, validation=0.1, test=0.1, seed=seed)
    except DataError as error:
        raise DataError(f"{os.fspath(source)}: {error}") from None
