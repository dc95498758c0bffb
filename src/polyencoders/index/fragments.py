"""Documents in files of the table's own format (Lance), written beside it by any process, then put into it at once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polyencoders.errors import MissingExtraError
from polyencoders.files import whole_file


@dataclass(frozen=True)
class Written:
    """Documents in a file that is not part of a table yet."""

    folder: Path  # The file is in `data/` below it
    columns: list[str]  # The names of its columns, in order
    fragment: dict[str, Any]  # Lance's description of the file

    @property
    def rows(self) -> int:
        """How many documents there are."""
        return int(self.fragment["physical_rows"])

    @property
    def file(self) -> Path:
        """The file itself."""
        return self.folder / "data" / str(self.fragment["files"][0]["path"])


def file_format_of(dataset: Path) -> str:
    """The version of Lance's file format that a table is written in."""
    return str(_lance().dataset(str(dataset)).data_storage_version)


def write(folder: Path, rows: pa.Table, file_format: str) -> Written:
    """Write documents, at least one, into a folder of their own."""
    fragments = _lance().fragment.write_fragments(
        rows, str(folder), mode="create", data_storage_version=file_format, max_rows_per_file=len(rows)
    )
    if len(fragments) != 1:
        raise ValueError(f"{len(rows)} documents were written into {len(fragments)} files, expected one")
    return Written(folder, rows.schema.names, fragments[0].to_json())


def commit(dataset: Path, written: Sequence[Written]) -> int:
    """Make files part of a table, in place of the documents with their ids, as one version.

    The caller holds the table's lock; the table has all columns, and no id comes twice. Returns how many were replaced.
    """
    lance = _lance()
    table = lance.dataset(str(dataset))
    removed, updated, replaced = _without(table, written)
    numbers = {field.name(): field.id() for field in table.lance_schema.fields()}
    fresh = []
    for one in written:
        fragment = json.loads(json.dumps(one.fragment))
        (file,) = fragment["files"]
        # A file alone numbers its columns from 0; the table has its own numbers for them.
        file["fields"] = [numbers[one.columns[number]] for number in file["fields"]]
        _put(one.file, dataset / "data" / file["path"])
        fresh.append(lance.FragmentMetadata.from_json(json.dumps(fragment)))
    operation = (
        lance.LanceOperation.Update(removed, updated, fresh, fields_modified=[])
        if replaced
        else lance.LanceOperation.Append(fresh)
    )
    lance.LanceDataset.commit(str(dataset), operation, read_version=table.version)
    return replaced


def _without(table: Any, written: Sequence[Written]) -> tuple[list[int], list[Any], int]:
    """The table's fragments without the documents that are replaced: those that go, and those that lose some."""
    from lance.file import LanceFileReader

    if not table.count_rows():
        return [], [], 0
    read = (LanceFileReader(str(one.file), columns=["id"]).read_all().to_table()["id"] for one in written)
    ids = pa.chunked_array([chunk for some in read for chunk in some.chunks], pa.string())
    there = table.scanner(columns=["id"], with_row_address=True).to_table()
    rows = there.filter(pc.is_in(there["id"], ids))["_rowaddr"].to_numpy()
    removed, updated = [], []
    for number in np.unique(rows >> 32).tolist():
        left = table.get_fragment(number).delete_rows((rows[rows >> 32 == number] & 0xFFFFFFFF).tolist())
        if left is None:
            removed.append(number)
        else:
            updated.append(left)
    return removed, updated, len(rows)


def _put(file: Path, target: Path) -> None:
    """Put a file in its place and leave it where it was, so that an interrupted commit can be done again."""
    if target.exists() and target.stat().st_size == file.stat().st_size:
        return  # a commit was interrupted after this
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(file, target)
    except OSError:  # a file system without links
        with whole_file(target) as scratch:
            shutil.copyfile(file, scratch)


def _lance() -> Any:
    try:
        import lance
        import lance.fragment
    except ImportError:
        raise MissingExtraError("pylance", "ray") from None
    return lance
