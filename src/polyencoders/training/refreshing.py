"""Mined negatives in a training run: found again every so many steps, with the model as it is by then, and given to
each batch as columns beside its own documents.

What was found is written beside the checkpoints, so that a run that goes on has the negatives of one that never
stopped. They join a batch when its loss is computed, because a loader reads a batch ahead. Knows the miner and the
trainer's callbacks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from polyencoders.files import whole_file
from polyencoders.training.collator import text_id
from polyencoders.training.mining import Miner, Pair
from polyencoders.training.processes import by_the_first


class MinedNegatives(TrainerCallback):
    """The negatives of a run, by the identities of query and right answer.

    Parameters
    ----------
    miner
        Of the run's examples.
    folder
        Where what was found is kept.
    """

    def __init__(self, miner: Miner, folder: Path) -> None:
        self.miner = miner
        self.folder = folder
        self.number = miner.options.number
        self._found: dict[tuple[int, int], list[str]] = {}
        self._of: int | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        every = self.miner.options.refresh_every
        step = state.global_step - state.global_step % every if every is not None else 0
        if step == self._of:
            return
        pairs = [(query, positive) for query, answers in self.miner.right.items() for positive in answers]
        places = by_the_first(lambda: self._mined(step, pairs))
        documents = self.miner.documents
        self._found = {
            (text_id(list(query)), text_id(positive)): [documents[place] for place in listed]
            for (query, positive), listed in zip(pairs, places, strict=True)
        }
        self._of = step

    def _mined(self, step: int, pairs: list[Pair]) -> list[list[int]]:
        """Places of each pair's negatives: as they are kept, or else found, and kept from now on."""
        file = self.folder / f"negatives-{step}.json"
        if file.exists():
            kept: list[list[int]] = json.loads(file.read_text(encoding="utf-8"))
            return kept
        found = self.miner.mine(step)
        places = [[self.miner.places[text] for text in found[pair]] for pair in pairs]
        with whole_file(file) as scratch:
            scratch.write_text(json.dumps(places), encoding="utf-8")
        return places

    def columns(self, query_ids: torch.Tensor, positive_ids: torch.Tensor) -> list[list[str]]:
        """Texts of the columns to add to a batch, as many as there are negatives a query."""
        keys = zip(query_ids.tolist(), positive_ids.tolist(), strict=True)
        return [list(column) for column in zip(*(self._found[key] for key in keys), strict=True)]
