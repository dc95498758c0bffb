"""Arguments and options that several commands share, with their help, and the panels that group them."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, BadParameter, Option

from polyencoders.cli.architectures import NAMES
from polyencoders.errors import DataError

if TYPE_CHECKING:
    from polyencoders.data.sources import Source
    from polyencoders.encoders.words import Words

of_the_model = partial(Option, rich_help_panel="Model")
in_training = partial(Option, rich_help_panel="Training")
on_ray = partial(Option, rich_help_panel="On a Ray cluster")

# --data of each command that reads examples.
_DATA = (
    "`chitchat`, the built-in conversations; a table (CSV, TSV, Excel, Parquet) or JSON, a list or a record a line: "
    '`{"query": "..." or ["oldest turn", "...", "newest"], "positive": "..."}`, optionally `negatives` and '
    "`candidates`; or FORMAT:PATH, such as `mutual:data/mutual` or `beir:scifact` (docs/data.md)."
)
ColumnsOf = Annotated[
    str | None,
    Option(
        "--columns",
        help="Which columns of the file are what: `query=question,positive=answer`, perhaps with `negative=` and "
        "`label=` (0 or 1; `label=score>=4` says from where on a pair is right). [default: guessed by common names]",
        show_default=False,
    ),
]
OnError = Annotated[
    str,
    Option(help="What is done with an item of a file that cannot be used: `stop`, or `skip`, and say how many."),
]
Chunks = Annotated[
    bool,
    Option(
        "--chunks",
        help="Cut documents that are longer than the model reads into overlapping passages; the best one is a "
        "document's score. For bi- and poly-encoders.",
    ),
]
WITH_CHUNKS = "With --chunks it is."  # What is said where the rest of long documents is not seen
Data = Annotated[str, Option(help=_DATA)]
DataOrRecipe = Annotated[str | None, Option("--data", help=_DATA)]
Recipe = Annotated[Path | None, Argument(help="A recipe in YAML (see recipes/). Give this or --data.")]
Validation = Annotated[
    str | None,
    Option(
        help="Held-out examples to choose the checkpoint by; `none`: none, all steps are made. [default: the set's "
        "own, or a part of --data: a tenth, of few pairs a fifth in turn]",
        show_default=False,
    ),
]

# Models and their training.
Model = Annotated[str, Argument(help="A model directory, a name on the hub, or a backbone, used as it comes.")]
Architecture = Annotated[str, of_the_model(help=f"The short name of the model: {NAMES}.")]
Backbone = Annotated[str, of_the_model(help="Any Hugging Face encoder: a directory, or a name on the hub.")]
Output = Annotated[Path, Option(help="The directory to save to. An interrupted save leaves no partial model.")]
Overwrite = Annotated[bool, Option(help="Replace what was saved to --output before.")]
Export = Annotated[Path | None, Option(help="Also write the trained model to this directory, to run without PyTorch.")]
Steps = Annotated[int, in_training(help="Updates of the weights.")]
Seed = Annotated[
    int, Option(help="Seed of new weights, the order of the data, and sampled queries and candidates.", min=0)
]
Freeze = Annotated[
    list[str] | None,
    of_the_model(
        help="What is not trained: `backbone` (only codes and maps are; seconds instead of minutes, and document "
        "vectors stay the backbone's own), `documents` (in a recipe, with `shared_tower: false`), `embeddings`, "
        "`all-but-top-K`. Can be given several times."
    ),
]
QueryLength = Annotated[
    int | None, of_the_model(help="The newest tokens of a query. [default: all that the backbone reads]", min=1)
]
DocumentLength = Annotated[
    int | None, of_the_model(help="The first tokens of a document. [default: all that the backbone reads]", min=1)
]
QueryPrompt = Annotated[str | None, of_the_model(help="Put before each query: `query: `, for backbones that want it.")]
DocumentPrompt = Annotated[str | None, of_the_model(help="Put before each document: `passage: `.")]

# Evaluation.
Queries = Annotated[int, Option(help="The most test queries.", min=1)]
Candidates = Annotated[int, Option(help="Documents that each query ranks, where they are sampled.", min=2)]

# Documents.
TextField = Annotated[
    str | None,
    Option("--text", help="The field that holds the text. [default: `text`, or what is guessed]", show_default=False),
]

# Search.
Query = Annotated[list[str], Option(help="The query. Given several times: the turns of a conversation, oldest first.")]
TopK = Annotated[int, Option("--top-k", "-k", help="How many documents to show.", min=1)]
AsJson = Annotated[bool, Option("--json", help="Print one JSON object a line instead of a table.")]
Where = Annotated[str | None, Option(help="An SQL condition on the metadata: `lang = 'en' AND year < 2020`.")]
IndexPath = Annotated[str, Argument(help="The index: a folder, or `s3://bucket/name` in object storage.")]
IndexModel = Annotated[
    str | None, Option("--model", help="The model. [default: the one that made the index, where it was then]")
]
AcceptDocumentsFrom = Annotated[
    str | None, Option(help="The model that made the index, where the model given is another with the same documents.")
]


@contextmanager
def items_left_out(on_error: str) -> Iterator[None]:
    """Carry out --on-error: with `skip`, bad items of the files that are read are left out, and counted at the end."""
    from polyencoders.data.lines import leaving_out_bad

    if on_error not in ("stop", "skip"):
        raise DataError(f"--on-error: {on_error!r}: expected stop or skip")
    if on_error == "stop":
        yield
        return
    with leaving_out_bad() as left_out:
        yield
    if left_out.number:
        more = "" if left_out.number == len(left_out.first) else "; ..."
        print(
            f"left out, as they cannot be used: {left_out.number:,} ({'; '.join(left_out.first)}{more})",
            file=sys.stderr,
        )


def read_data(data: str, columns: str | None, on_error: str = "stop") -> "Source":
    """What --data, --columns and --on-error ask for together.

    Where a set has no validation side, every command holds out the same one, whatever its --seed: what one command
    trained on, another does not take for held out.
    """
    from polyencoders.data import read_source
    from polyencoders.data.columns import parse_columns

    with items_left_out(on_error):
        return read_source(data, columns=parse_columns(columns))


def _milliseconds(given: str) -> float:
    """Read a time, in milliseconds.

    >>> _milliseconds("100ms"), _milliseconds("0.2s"), _milliseconds("50")
    (100.0, 200.0, 50.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s)?\s*", str(given))
    if found is None:
        raise BadParameter(f"{given!r}: expected a time such as 100ms or 0.5s")
    return float(found[1]) * (1000 if found[2] == "s" else 1)


# Words beside vectors.
of_words = partial(Option, rich_help_panel="Words")
UseWords = Annotated[bool, of_words("--words", help="Look for the query's words as well (BM25).")]
WordsWeight = Annotated[
    float | None,
    of_words(
        help="What a document that has all of them gets on top; implies --words. [default: see docs/the-index.md]",
        min=0,
        show_default=False,
    ),
]
WordsLanguage = Annotated[
    str,
    of_words(
        help="Whose stop words are left out and whose endings are cut off, such as `english`. `none`: all words of any "
        "language, as they stand."
    ),
]


def words_of(use: bool, weight: float | None, language: str = "none") -> "Words | Literal[False] | None":
    """What the options for words ask for together; None: nothing was said, False: none, which is a weight of 0."""
    from polyencoders.encoders.words import Words, check_language

    try:
        check_language(language)
    except ValueError as error:
        raise DataError(f"--words-language: {error}") from None
    found = Words.of(use if weight is None else weight)
    if found is None:
        return None if weight is None else False
    return found._replace(language=language)


# A second stage.
of_the_reranker = partial(Option, rich_help_panel="Reranker")
_READER = "A cross-encoder that reads the best of what was found: a directory, or a name on the hub"
Rerank = Annotated[str | None, of_the_reranker(help=f"{_READER}. [default: none]", show_default=False)]
RerankOfIndex = Annotated[
    str | None,
    of_the_reranker(
        help=f"{_READER}; `none`: no reader. [default: what `polyencoders tune` has found]", show_default=False
    ),
]


def reranker_of(given: str | None) -> str | Literal[False] | None:
    """What --rerank asks for, as `Index.search` takes it."""
    return False if given == "none" else given


MinProbability = Annotated[
    float | None,
    Option(
        help="Leave out hits that are less probable; for an index that was tuned.", min=0, max=1, show_default=False
    ),
]
RerankTop = Annotated[int | None, of_the_reranker(help="How many it reads. [default: 20]", min=1)]
RerankWeight = Annotated[
    float | None,
    of_the_reranker(
        help="How much its score counts beside the first one. [default: both have an equal say]",
        min=0,
        show_default=False,
    ),
]
RerankBudget = Annotated[
    float | None,
    of_the_reranker(
        help="A time, such as `100ms`: it reads as many as fit.",
        parser=_milliseconds,
        metavar="TIME",
        show_default=False,
    ),
]

# Many machines.
Ray = Annotated[
    str | None,
    on_ray(
        "--ray",
        help="Work on a Ray cluster: `HOST:PORT` of its head; `auto`: that of this machine; `local`: a new one. Needs "
        '`pip install "polyencoders[ray]"`.',
    ),
]
Shards = Annotated[int | None, on_ray(help="Shards of the index. [default: one for each machine]", min=1)]
