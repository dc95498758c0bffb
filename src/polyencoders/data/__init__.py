"""Files in, datasets out.

An `Example` is a query and its right answers. `load_examples` reads a data set by its name: the built-in one, a file
(a table, JSON), or a set in one of the field's formats (docs/data.md). `training_dataset` makes the table that a
trainer takes, `read_texts` reads documents to rank, `read_queries` a log, and `DocumentFile` streams the documents of
an index with their metadata. What cannot be used is a `DataError`, whose message begins with the file and the line
number.
"""

from polyencoders.data.beir import Retrieval, read_beir, read_scifact
from polyencoders.data.chitchat import chitchat, chitchat_replies
from polyencoders.data.conversations import read_self_dialogue
from polyencoders.data.documents import DocumentFile
from polyencoders.data.examples import Example, Query, class_names, training_dataset
from polyencoders.data.formats import load_examples, read_source
from polyencoders.data.json_dialogues import read_dailydialogpp, read_dstc7, read_mutual
from polyencoders.data.jsonl import read_examples, read_jsonl, read_queries, read_texts, write_jsonl
from polyencoders.data.labelled import read_clinc150, read_labelled
from polyencoders.data.numbered_dialogues import read_babi, read_convai2
from polyencoders.data.rows import as_examples
from polyencoders.data.splits import Splits, split_examples
from polyencoders.data.ubuntu import read_ubuntu, read_ubuntu_irc
from polyencoders.data.wikiqa import read_wikiqa

__all__ = [
    "DocumentFile",
    "Example",
    "Query",
    "Retrieval",
    "Splits",
    "as_examples",
    "chitchat",
    "chitchat_replies",
    "class_names",
    "load_examples",
    "read_babi",
    "read_beir",
    "read_clinc150",
    "read_convai2",
    "read_dailydialogpp",
    "read_dstc7",
    "read_examples",
    "read_jsonl",
    "read_labelled",
    "read_mutual",
    "read_queries",
    "read_scifact",
    "read_self_dialogue",
    "read_source",
    "read_texts",
    "read_ubuntu",
    "read_ubuntu_irc",
    "read_wikiqa",
    "split_examples",
    "training_dataset",
    "write_jsonl",
]
