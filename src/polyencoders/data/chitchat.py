"""The built-in set: people chatting, from the PyPI package ``chitchat-dataset`` (BYU PCCL, MIT licence).

Knows the package's file and how we split it; nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from typing import Literal

from polyencoders.data.examples import Example
from polyencoders.data.splits import Splits
from polyencoders.errors import DataError, MissingExtraError


def chitchat(turns: int = 3) -> Splits:
    """Real conversations: the turns before, and the turn that followed.

    7,168 conversations of 138,737 messages, 12 of them empty; without those, 131,557 turns follow another, and each is
    an example. About 80% of the conversations are for training, 10% for validation, 10% for testing: a conversation is
    on one side only, decided by a hash of its words, so that the same conversation recorded twice is too. Greetings
    and the like recur on every side, as they do between people.

    Parameters
    ----------
    turns
        How many turns before the answer make the query, at most; 1 or more.

    Returns
    -------
    Splits
        Examples in the order of the conversations, with white space normalised.

    Raises
    ------
    MissingExtraError
        When ``chitchat-dataset`` is not installed.
    DataError
        When `turns` is below 1.

    Examples
    --------
    >>> chitchat(turns=3).train[0].query  # doctest: +ELLIPSIS
    ('Hello How are you doing today?',)
    """
    if turns < 1:
        raise DataError(f"turns={turns}: expected 1 or more turns before the answer")
    splits = Splits([], [], [])
    for conversation in conversations():
        side: list[Example] = getattr(splits, side_of(conversation))
        for i in range(1, len(conversation)):
            side.append(Example(conversation[max(0, i - turns) : i], conversation[i]))
    return splits


def chitchat_replies() -> list[dict[str, str]]:
    """The distinct replies of all conversations, as documents to put into an index: 125,220 of them.

    A reply is what followed another message: all but the first of a conversation. They come from training, validation
    and test alike; who measures on an index of them knows it.

    Returns
    -------
    list of dict
        Rows such as ``{"text": "Yes, please."}``, in the order in which each was first said, with white space
        normalised.

    Raises
    ------
    MissingExtraError
        When ``chitchat-dataset`` is not installed.

    Examples
    --------
    >>> chitchat_replies()[2]
    {'text': 'oh wow haha so you still feel tired huh?'}
    """
    replies = (reply for conversation in conversations() for reply in conversation[1:])
    return [{"text": reply} for reply in dict.fromkeys(replies)]


def conversations() -> list[list[str]]:
    """The 7,168 conversations as they are: messages, oldest first, speakers taking turns, the empty ones left out.

    A message sent in several pieces is joined by spaces. 3,150 of the conversations are a greeting nobody answered.

    Raises
    ------
    MissingExtraError
        When ``chitchat-dataset`` is not installed.
    """
    try:
        package = importlib.resources.files("chitchat_dataset")
    except ModuleNotFoundError:
        raise MissingExtraError("chitchat-dataset", "demo") from None
    # The package's own reader opens the file in the machine's encoding and leaves it open.
    data = json.loads(package.joinpath("dataset.json").read_text(encoding="utf-8"))
    return [
        [text for message in conversation["messages"] if (text := " ".join(_words(message)))]
        for conversation in data.values()
    ]


def side_of(conversation: list[str]) -> Literal["train", "validation", "test"]:
    """The side of the split that a conversation is on, by a hash of its words.

    >>> side_of(["Hello How are you doing today?"])
    'train'
    """
    bucket = int.from_bytes(hashlib.sha256("\n".join(conversation).encode()).digest()[:8]) % 10
    return "test" if bucket == 9 else "validation" if bucket == 8 else "train"


def _words(message: list[dict[str, str]]) -> list[str]:
    return " ".join(piece["text"] for piece in message).split()
