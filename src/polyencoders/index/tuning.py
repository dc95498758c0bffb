"""How an index is searched unless it is said otherwise: what held-out pairs have confirmed, kept with the index.

`polyencoders tune` writes it. It holds for the model and the reranker that it names by their fingerprints.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from polyencoders.encoders.calibration import Calibration
from polyencoders.encoders.reranking import Reranker
from polyencoders.errors import IndexingError, ModelError
from polyencoders.index.storage import Storage

TUNING = "tuning.json"
FORMAT = 1


@dataclass(frozen=True)
class Tuning:
    """What is searched with."""

    queries: str  # The fingerprint of the model's query side
    words: float | None = None  # The weight of the words beside the vectors; None: vectors alone
    rerank: str | None = None  # Where the reranker is loaded from; None: there is none
    rerank_fingerprint: str = ""
    rerank_top: int = 0
    rerank_weight: float = 0.0
    calibration: Calibration | None = None  # Probabilities of the scores of such a search
    held_out: int = 0  # Queries that confirmed it
    measures: dict[str, float] = field(default_factory=dict)  # What they measured, by name

    @classmethod
    def read(cls, storage: Storage) -> "Tuning | None":
        """Return what is kept with an index; None where nothing is, IndexingError where it cannot be read."""
        try:
            content = storage.read(TUNING)
        except FileNotFoundError:
            return None
        try:
            kept: dict[str, Any] = json.loads(content)
            if (found := kept.pop("format")) != FORMAT:
                raise IndexingError(f"{storage.place}: {TUNING} is of format {found}; this version reads {FORMAT}")
            calibration = kept.pop("calibration")
            return cls(**kept, calibration=Calibration(**calibration) if calibration else None)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise IndexingError(f"{storage.place}: {TUNING} is damaged ({error}): tune the index again") from None

    def write(self, storage: Storage) -> None:
        """Keep it with an index, whole or not at all."""
        storage.write(TUNING, json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode())

    @property
    def says_something(self) -> bool:
        """Whether anything was confirmed."""
        return self.words is not None or self.rerank is not None or self.calibration is not None

    def reranker(self) -> Reranker | None:
        """Load the reranker; ModelError if it is another one now."""
        if self.rerank is None:
            return None
        found = Reranker(self.rerank, self.rerank_top, self.rerank_weight)
        if getattr(found.model, "fingerprint", "") != self.rerank_fingerprint:
            raise ModelError(
                f"{self.rerank} is another model than the one that the index was tuned with: tune it again, or search "
                "with rerank=False (--rerank none)"
            )
        return found

    def probabilities(self, words: float | None, reranker: Reranker | None) -> Calibration | None:
        """Return the calibration if it is one of such a search."""
        asked = (reranker.name, reranker.weight) if reranker is not None else (None, 0.0)
        return self.calibration if (words, *asked) == (self.words, self.rerank, self.rerank_weight) else None
