"""Which model made an index: fingerprints of the weights and settings of both its sides, and the refusal of others."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders import Encoder, load
from polyencoders.encoders.protocols import is_encoder
from polyencoders.errors import ModelError

GivenModel = Encoder | str | os.PathLike[str]  # A bi- or poly-encoder, or where to load it from


@dataclass(frozen=True)
class Maker:
    """What an index keeps of the model that made it."""

    architecture: str  # `BiEncoder` or `PolyEncoder`
    name: str | None  # The directory or the name on the hub that it was loaded from; None if it was given as an object
    dimension: int
    documents: str  # Fingerprint of what makes document vectors: weights, lengths, the prompt
    queries: str  # Fingerprint of what makes query vectors or codes, and scores of them
    engine: str = ""  # What computed it, to be shown

    @classmethod
    def of(cls, model: Encoder, name: str | None = None) -> "Maker":
        """The maker that a model is now."""
        return cls(model.architecture, name, model.dimension, *model.fingerprints, model.engine)

    @classmethod
    def parse(cls, text: str) -> "Maker":
        """The maker that `str` was given of."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @property
    def label(self) -> str:
        """Its architecture, name and the beginnings of its fingerprints, for messages."""
        name = f" {self.name}" if self.name else ""
        return f"{self.architecture}{name} (documents {self.documents[:8]}, queries {self.queries[:8]})"


def check_model(made: Maker, given: Maker, accepted: Maker | None = None) -> None:
    """Refuse a model that did not make the index, with a ModelError that says what differs."""
    who = f"the index was made by {made.label}, the model given is {given.label}"
    if made.dimension != given.dimension:
        raise ModelError(f"{who}: its vectors have {made.dimension} dimensions, the model's {given.dimension}")
    if made.documents != given.documents:
        also = "" if made.architecture == given.architecture else "; it is another architecture, too"
        raise ModelError(
            f"{who}: the document sides differ (other weights or settings), so the stored vectors mean nothing to "
            f"this model{also}. Use the model that made the index, or make a new index"
        )
    if accepted is not None:  # the caller takes its documents as those of the model given
        if (accepted.documents, accepted.queries) != (made.documents, made.queries):
            raise ModelError(f"the index was made by {made.label}, not by {accepted.label}, whose documents you accept")
        return
    if made.queries != given.queries:
        which = (
            f"another architecture ({given.architecture} in place of {made.architecture})"
            if made.architecture != given.architecture
            else "other weights or settings on its query side"
        )
        raise ModelError(
            f"{who}: {which}. Its document side is the same, so that the stored vectors are the ones it would make: "
            f"to search them, say so with accept_documents_from={made.name or 'the model that made it'!r} "
            "(--accept-documents-from)"
        )


def check_vectors(model: Encoder, maker: Maker, texts: list[str | None], vectors: NDArray[np.float32]) -> None:
    """Refuse vectors `(n, d)` that a model does not make of these `n` texts, tried on a few; ModelError says why."""
    places = [place for place, text in enumerate(texts) if text is not None][:16]
    if not places:
        return
    own = model.encode_documents([str(texts[place]) for place in places], bf16=False)
    given = vectors[places]
    lengths, given_lengths = (np.linalg.norm(one, axis=1) for one in (own, given))
    cosine = np.median((own * given).sum(1) / np.maximum(lengths * given_lengths, 1e-30))
    ratio = np.median(lengths / np.maximum(given_lengths, 1e-30))
    if cosine < 0.99 or not 0.9 < ratio < 1.1:
        raise ModelError(
            f"these vectors were not made by the document side of {maker.label}: of {len(places)} texts that it "
            f"encoded again, the median cosine with the vector given is {cosine:.3f} (expected above 0.99) "
            f"and the ratio of the lengths {ratio:.2f} (expected 1)"
        )


def loaded(model: GivenModel) -> tuple[Encoder, str | None]:
    """A model and its name, as given or loaded; ModelError if it cannot be loaded or has no document vectors."""
    name: str | None = None
    found: object = model
    if isinstance(model, str | os.PathLike):
        name = str(Path(model).resolve()) if Path(model).exists() else os.fspath(model)
        found = load(name)
    if not is_encoder(found):
        what = getattr(found, "architecture", type(found).__name__)
        raise ModelError(
            f"{name or 'the model'} is a {what}, which reads query and document together and has no "
            "document vectors to keep: an index wants a BiEncoder or a PolyEncoder"
        )
    return found, name
