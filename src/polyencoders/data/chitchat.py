"""The built-in set: people chatting, from the PyPI package ``chitchat-dataset`` (BYU PCCL, MIT licence)."""

import hashlib
import importlib.resources
import json

from polyencoders.data.sources import Split, turns_as_examples
from polyencoders.data.splits import Splits
from polyencoders.errors import MissingExtraError


def chitchat(turns: int = 3) -> Splits:
    """Reads real conversations: the turns before, and the turn that followed.

    Each of the 131,557 turns that follow another is an example. About 80% of the 7,168 conversations are for training,
    10% for validation, 10% for testing. A hash of its words says where a conversation is, so one that was recorded
    twice is on one split only. Examples are in the order of the conversations, with white space normalised.

    `turns` is the largest number of turns in a query; below 1 it is a DataError. Raises a MissingExtraError when
    ``chitchat-dataset`` is not installed.

    >>> chitchat(turns=3).train[0].query
    ('Hello How are you doing today?',)
    """
    found = conversations()
    splits = Splits([], [], [])
    for conversation, examples in zip(found, turns_as_examples(found, turns), strict=True):
        getattr(splits, split_of(conversation)).extend(examples)
    return splits


def chitchat_replies() -> list[dict[str, str]]:
    """Returns the 125,220 distinct replies of all conversations, as documents to put into an index.

    A reply is any message but the first of a conversation. Replies are in the order in which each was first said, those
    of test conversations among them. Raises a MissingExtraError when ``chitchat-dataset`` is not installed.

    >>> chitchat_replies()[2]
    {'text': 'oh wow haha so you still feel tired huh?'}
    """
    replies = dict.fromkeys(reply for conversation in conversations() for reply in conversation[1:])
    return [{"text": reply} for reply in replies]


def conversations() -> list[list[str]]:
    """Reads the 7,168 conversations: messages, oldest first, without empty ones. 3,150 are an unanswered greeting."""
    try:
        package = importlib.resources.files("chitchat_dataset")
    except ModuleNotFoundError:
        raise MissingExtraError("chitchat-dataset", "demo") from None
    # The package's own reader opens the file in the machine's encoding and leaves it open.
    data = json.loads(package.joinpath("dataset.json").read_text(encoding="utf-8"))
    texts = (
        [" ".join(" ".join(piece["text"] for piece in message).split()) for message in conversation["messages"]]
        for conversation in data.values()
    )
    return [[text for text in conversation if text] for conversation in texts]


def split_of(conversation: list[str]) -> Split:
    """Returns the split that a conversation is on, by a hash of its words."""
    bucket = int.from_bytes(hashlib.sha256("\n".join(conversation).encode()).digest()[:8]) % 10
    return "test" if bucket == 9 else "validation" if bucket == 8 else "train"
