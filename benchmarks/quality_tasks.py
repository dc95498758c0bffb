"""The tasks of `quality.py`: published sets, unpacked from their archives, and what is ranked in each.

The sets are no part of the project: each is an archive `NAME.tar.gz` in the folder that `--data` names.
"""

from __future__ import annotations

import argparse
import os
import random
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyencoders.data import Example, Splits, load_examples
from polyencoders.evaluation import given_candidates, given_corpus, sampled_candidates
from polyencoders.evaluation.tasks import Task
from report import CACHE, ROOT


@dataclass(frozen=True)
class Ranking:
    """What the queries of a set rank, and how that is measured.

    Attributes
    ----------
    archive
        The name of the set's archive, without its ending; None: the built-in conversations.
    source
        The source for `load_examples`, in the unpacked archive.
    ranked
        Makes a task of test examples and of the set's documents.
    extra
        A measure beside those that all tasks have.
    """

    archive: str | None
    source: str
    ranked: Callable[[Sequence[Example], Sequence[str]], Task]
    extra: str | None = None


def _given(examples: Sequence[Example], corpus: Sequence[str]) -> Task:
    return given_candidates(examples)


def _listed(examples: Sequence[Example], corpus: Sequence[str]) -> Task:
    return given_corpus(examples, corpus)


def _sampled(candidates: int) -> Callable[[Sequence[Example], Sequence[str]], Task]:
    return lambda examples, corpus: sampled_candidates(examples, candidates, seed=0)


RANKINGS = {
    "mutual": Ranking("mutual", "mutual:mutual/data/mutual", _given),
    "dailydialog++ adversarial": Ranking("dailydialogpp", "dailydialog++:dailydialogpp/dataset", _given),
    "dailydialog++ random": Ranking("dailydialogpp", "dailydialog++-random:dailydialogpp/dataset", _given),
    "babi-6": Ranking("dstc2_babi6", "babi:dstc2_babi6", _listed),
    "ubuntu 10": Ranking("ubuntu_irc_disentangle", "ubuntu-irc:ubuntu_irc_disentangle/data", _sampled(10)),
    "ubuntu 100": Ranking("ubuntu_irc_disentangle", "ubuntu-irc:ubuntu_irc_disentangle/data", _sampled(100)),
    "scifact": Ranking("scifact", "scifact:scifact/data", _listed, "nDCG@10"),
    "wikiqa": Ranking("wikiqa", "wikiqa:WikiQA", _given, "MAP"),
    "chit-chat": Ranking(None, "chitchat", _sampled(20)),
    "banking77": Ranking("banking77", "labelled:banking77/banking_data", _listed),
    "clinc150": Ranking("clinc150", "clinc150:clinc150/data/data_full.json", _listed),
}
"""Rankings by name. Two of one source share their training."""


def add_data_options(command: argparse.ArgumentParser) -> None:
    """Add `--data` and `--unpacked`, the folders of the archives and of what is in them."""
    default = os.environ.get("POLYENCODERS_BENCHMARK_DATA") or ROOT.parent / "shared" / "data"
    command.add_argument("--data", type=Path, default=Path(default), help="the folder of the archives")
    command.add_argument("--unpacked", type=Path, default=CACHE / "quality")


def load(name: str, archives: Path, unpacked: Path) -> Splits:
    """The examples of a task. Its archive is unpacked the first time.

    Raises
    ------
    SystemExit
        The archive is not there.
    """
    ranking = RANKINGS[name]
    if ranking.archive is None:
        return load_examples(ranking.source)
    done = unpacked / f"{ranking.archive}.unpacked"
    if not done.exists():
        archive = archives / f"{ranking.archive}.tar.gz"
        if not archive.exists():
            raise SystemExit(
                f"{archive}: no such archive; --data names the folder of the archives, --tasks the tasks to run"
            )
        unpacked.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as packed:
            # Python 3.11.0 to 3.11.3 know no filters.
            packed.extractall(unpacked, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        for inner in unpacked.glob(f"{ranking.archive}/**/*.zip"):
            with zipfile.ZipFile(inner) as zipped:
                zipped.extractall(inner.parent)
        done.touch()
    kind, _, path = ranking.source.partition(":")
    return load_examples(f"{kind}:{unpacked / path}")


def some(examples: Sequence[Example], number: int) -> list[Example]:
    """At most so many examples, drawn by seed 0."""
    return random.Random(0).sample(list(examples), min(number, len(examples)))
