"""Files in, datasets out. Knows nothing of models, scores or training.

An `Example` is a query and its right answers; `read_jsonl` and `chitchat` give them, `training_dataset` makes the table
a trainer wants, `read_texts` reads documents to rank, `read_documents` streams those of an index, with their metadata.
"""

from polyencoders.data.chitchat import chitchat, chitchat_replies
from polyencoders.data.documents import DocumentFile, read_documents
from polyencoders.data.examples import Example, Query, training_dataset
from polyencoders.data.jsonl import read_jsonl, read_texts, write_jsonl
from polyencoders.data.sources import load_examples
from polyencoders.data.splits import Splits, split_examples

__all__ = [
    "DocumentFile",
    "Example",
    "Query",
    "Splits",
    "chitchat",
    "chitchat_replies",
    "load_examples",
    "read_documents",
    "read_jsonl",
    "read_texts",
    "split_examples",
    "training_dataset",
    "write_jsonl",
]
