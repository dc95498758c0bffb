"""What an exported directory says of itself, `export.json`, and the check that its files are as they were written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from polyencoders.encoders import Fingerprints
from polyencoders.errors import ModelError

MANIFEST = "export.json"
TOKENIZER = "tokenizer.json"
FORMAT = 1
ENGINES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
"""What runs graphs, by its short name."""


@dataclass(frozen=True)
class Manifest:
    """An exported model: what it is, how its texts become tokens, and which graph computes what."""

    architecture: str
    engine: str
    """`onnx` (ONNX Runtime) or `openvino`."""
    graphs: dict[str, str]
    """The file of each graph: `query` and `document`, which may be the same file, or `pair`."""
    precision: dict[str, str]
    """By the same names: `float32`, `int8` or `bf16`."""
    digests: dict[str, str]
    """A checksum of every file."""
    turn_separator: str
    query_length: int | None
    """The most tokens of a query, or of a pair read in one sequence; None: no limit."""
    document_length: int | None
    max_length: int | None
    """The most tokens of a text that are counted."""
    padding: int
    """The id of the padding token."""
    cosine: bool
    dimension: int = 0
    temperature: float = 1.0
    prompts: dict[str, str] = field(default_factory=dict)
    fingerprints: tuple[str, str] = ("", "")
    """The names of what makes document vectors and of what makes queries, as in `Fingerprints`."""
    codes: bool = False
    """Whether the query graph tells the share of each token in each code."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What only one architecture has."""
    format: int = FORMAT

    @property
    def made_by(self) -> Fingerprints:
        """The fingerprints, by name."""
        return Fingerprints(*self.fingerprints)

    def write(self, folder: Path) -> None:
        """Write it to a folder, beside its files."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read it from a folder, and check every file.

        Raises
        ------
        ModelError
            It is damaged, of another format, or a file is missing, cut short or changed.
        """
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found = content.get("format")
            if found != FORMAT:
                raise ModelError(
                    f"{folder} was exported in format {found!r}; this version reads {FORMAT}: export it again"
                )
            manifest = cls(**content)
        except (ValueError, TypeError, AttributeError, OSError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"{path} is damaged or cut short ({error}): export the model again") from error
        for name, expected in manifest.digests.items():
            file = folder / name
            if not file.is_file():
                raise ModelError(f"{folder} has no {name}: copy it again, or export the model again")
            if digest(file) != expected:
                raise ModelError(f"{file} is cut short, or was changed after the export: copy it again")
        return manifest


def digest(file: Path) -> str:
    """Return the checksum of a file (BLAKE2b)."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
