"""The tasks of `quality.py`: published sets, unpacked from their archives, and what is ranked in each.

Knows readers and protocols; nothing of models. The sets are no part of the project: an archive a set, `NAME.tar.gz`, in
the folder that `--data` names.
"""

from __future__ import annotations

import random
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyencoders.data import Example, Splits, load_examples
from polyencoders.evaluation import given_candidates, given_corpus, sampled_candidates
from polyencoders.evaluation.protocols import Task


@dataclass(frozen=True)
class Ranking:
    """What a set's queries rank, and how that is measured.

    Attributes
    ----------
    archive
        The set's, without its ending; None for the built-in one.
    source
        What `load_examples` reads, in the unpacked archive.
    ranked
        Test examples and the set's one list to a task.
    extra
        A measure of its own beside those that all have.
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
"""By name. Two rankings of one source share their training."""


def load(name: str, archives: Path, unpacked: Path) -> Splits:
    """A task's examples; its archive is unpacked where that has not been done.

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
            raise SystemExit(f"{archive}: no such archive; --data names the folder of the sets, --tasks fewer of them")
        unpacked.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as packed:
            packed.extractall(unpacked, filter="data")
        for inner in unpacked.glob(f"{ranking.archive}/**/*.zip"):
            with zipfile.ZipFile(inner) as zipped:
                zipped.extractall(inner.parent)
        done.touch()
    kind, _, path = ranking.source.partition(":")
    return load_examples(f"{kind}:{unpacked / path}")


def some(examples: Sequence[Example], number: int) -> list[Example]:
    """That many examples, drawn by seed 0; all, where there are fewer."""
    return random.Random(0).sample(list(examples), min(number, len(examples)))
