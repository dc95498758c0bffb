"""Reads Ubuntu's chat.

The Ubuntu Dialogue Corpus, v1 and v2, asks what is said next, of ten utterances (Lowe et al., 2015). In the
disentangled chat, people marked which message a message answers (Kummerfeld et al., ACL 2019).
"""

import os
import re
from collections.abc import Collection
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import item, nothing_left, number_left_out, numbered_lines, parsed
from polyencoders.data.sources import Source, Split, check_turns, read_folders, read_splits
from polyencoders.data.tables import named_rows
from polyencoders.errors import DataError

_NAMES: dict[Split, list[str]] = {"train": ["train*.csv"], "validation": ["val*.csv"], "test": ["test*.csv"]}
# v2 marks the ends of utterances and of turns, v1 the ends of turns.
_END_OF_TURN = re.compile(r"__eot__|__EOS__")
_END = re.compile(r"__eot__|__EOS__|__eou__")
_MESSAGE = re.compile(r"\[\d\d:\d\d\] <([^>]*)> (.*)")
_ACTION = re.compile(r"\[\d\d:\d\d\]\s+\* (\S+) (.*)")
_ADDRESSED = re.compile(r"(\S+?)[:,]\s*")


def read_ubuntu(path: str | os.PathLike[str]) -> list[Example]:
    """Reads a table of the Ubuntu Dialogue Corpus.

    `path` is CSV under a header, plain or gzipped. Three columns: a context, an utterance, and 1 where it was said
    next, 0 where it was not (``train.csv``). More columns: a context, what was said next, and wrong answers
    (``valid.csv``, ``test.csv``).

    Examples are in the file's order. The query is the context's turns, without the marks of ends (``__eou__``,
    ``__eot__``, ``__EOS__``). Rows labelled 0, whose utterance is a random one, and answers without a word are left
    out. The candidates are the right answer and the wrong ones, in the file's order. A DataError names the file and the
    line.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "valid.csv")
    >>> _ = path.write_text("Context,Ground Truth Utterance,Distractor_0,Distractor_1\\n"
    ...     "no sound __eou__ help __eou__ __eot__ hi __eou__ __eot__,which card ? __eou__,bye __eou__,ok\\n")
    >>> read_ubuntu(path)[0].query, read_ubuntu(path)[0].candidates
    (('no sound help', 'hi'), ('which card ?', 'bye', 'ok'))
    """
    path, before = Path(path), number_left_out()
    found = parsed(path, named_rows(path, ",", _check_header), lambda row: _example(*row.values()))
    examples = [example for example in found if example is not None]
    if not examples:
        raise nothing_left(path, "no examples: no row has a right answer", before)
    return examples


def source(path: str, seed: int) -> Source:
    """``ubuntu:PATH``: a table, or a folder with ``train.csv``, ``valid.csv`` and ``test.csv``, or v1's names."""
    return read_splits(Path(path), _NAMES, lambda file: Source(read_ubuntu(file)), seed)


def _check_header(names: Collection[str]) -> None:
    header = list(names)
    if len(header) < 3 or header[0].strip().casefold() != "context":
        raise DataError(f"expected a header Context, Utterance, Label or the like, given {shortened(header)}")


def _example(context: str, said: str, *others: str) -> Example | None:
    """Returns None for a row without a right answer."""
    turns = [turn for text in _END_OF_TURN.split(context) if (turn := _utterance(text))]
    answer = _utterance(said)
    if len(others) > 1:
        listed = [text for text in (answer, *map(_utterance, others)) if text]
        return Example(turns, answer, candidates=listed) if answer else None
    (label,) = others
    if label.strip() not in ("0", "1", "0.0", "1.0"):
        raise DataError(f"the third column is a label: expected 0 or 1, given {shortened(label)}")
    return Example(turns, answer) if float(label) and answer else None


def _utterance(text: str) -> str:
    return " ".join(_END.sub(" ", text).split())


def read_ubuntu_irc(path: str | os.PathLike[str], turns: int = 3) -> list[Example]:
    """Reads replies from Ubuntu's chat: every marked link from a message to an earlier one is an example.

    `path` is a folder such as ``data/train``, with pairs of files ``X.raw.txt`` (the log: ``[12:00] <oga> thanks
    bob2``) and ``X.annotation.txt`` (``1005 1006 -``: line 1006 of the log, counted from 0, answers line 1005); or one
    ``.annotation.txt`` file beside its log. `turns` is the largest number of turns in a query, 1 or more: the message
    that was answered, the message that it answered (the latest, if several), and so on.

    Examples are ordered by file, then in the order of the annotations. Times and names of speakers are left out. So is
    a name with which a message begins, so that a reply is not found by the names in it. The server's messages are no
    answers. A DataError names the file and the line.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "x.raw.txt").write_text("[12:00] <oga> no sound!\\n[12:01] <bob2> oga: which card?\\n")
    >>> _ = (folder / "x.annotation.txt").write_text("0 0 -\\n0 1 -\\n")
    >>> read_ubuntu_irc(folder)
    [Example(query=('no sound!',), positives=('which card?',), negatives=(), candidates=None)]
    """
    return _read_irc(Path(path), turns).examples


def irc_source(path: str, seed: int) -> Source:
    """``ubuntu-irc:PATH``: the folder with ``train``, ``dev`` and ``test`` in it, or one of them."""
    return read_folders(Path(path), _read_irc, seed)


def _read_irc(path: Path, turns: int = 3) -> Source:
    check_turns(turns)
    files = sorted(path.glob("*.annotation.txt")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: no annotations, expected files such as 2005-06-27_12.annotation.txt")
    return Source.of([_irc_examples(file, turns) for file in files])


def _irc_examples(path: Path, turns: int) -> list[Example]:
    if not path.name.endswith(".annotation.txt"):
        raise DataError(f"{path}: expected a file whose name ends in .annotation.txt")
    log = path.with_name(path.name.removesuffix(".annotation.txt") + ".raw.txt")
    said = _messages([line.rstrip("\r\n") for _, line in numbered_lines(log, blank=True)])
    links = _links(path, len(said))
    answered: dict[int, int] = {}
    for before, reply in links:
        answered[reply] = max(before, answered.get(reply, -1))
    examples = []
    for before, reply in links:
        answer = said[reply]
        if said[before] is None or answer is None:
            continue
        query: list[str] = []
        at: int | None = before
        while at is not None and len(query) < turns and (text := said[at]) is not None:
            query.insert(0, text)
            at = answered.get(at)
        examples.append(Example(query, answer))
    return examples


def _links(path: Path, lines: int) -> list[tuple[int, int]]:
    """Reads each link once, as the numbers of the message that was answered and of its answer."""
    links: dict[tuple[int, int], None] = {}
    for number, line in numbered_lines(path):
        with item(f"{path}:{number}"):
            fields = line.split()
            if len(fields) != 3 or not (fields[0].isdecimal() and fields[1].isdecimal()):
                raise DataError(f"expected two line numbers and a dash, given {shortened(line.strip())}")
            before, reply = sorted(map(int, fields[:2]))
            if reply >= lines:
                raise DataError(f"line {reply} of the log, which has {lines} (counted from 0)")
            if before != reply:
                links[before, reply] = None
    return list(links)


def _messages(log: list[str]) -> list[str | None]:
    """Returns what was said in each line, without the speaker and the person spoken to; None for the server's lines."""
    found = [_MESSAGE.fullmatch(line) or _ACTION.fullmatch(line) for line in log]
    speakers = {match[1].casefold() for match in found if match}
    messages: list[str | None] = []
    for match in found:
        text = match[2].strip() if match else ""
        addressed = _ADDRESSED.match(text)
        if addressed and addressed[1].casefold() in speakers:
            text = text[addressed.end() :].strip()
        messages.append(text or None)
    return messages
