"""Documents in files of the table's own format, written beside it by any process, and put into it as one version.

Knows Lance's files and how they become part of a table; of what the columns mean, only that documents are replaced by
their ids.
"""

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
    """Documents in a file that is no part of a table yet."""

    folder: Path
    """Where `data/` with the file is."""
    columns: list[str]
    """Their names, in the file's order."""
    fragment: dict[str, Any]
    """What Lance says of the file."""

    @property
    def rows(self) -> int:
        """How many documents there are."""
        return int(self.fragment["physical_rows"])

    @property
    def file(self) -> Path:
        """The file itself."""
        return self.folder / "data" / self.fragment["files"][0]["path"]

    def as_json(self) -> dict[str, Any]:
        """For `of_json`, which is told the folder again."""
        return {"columns": self.columns, "fragment": self.fragment}

    @classmethod
    def of_json(cls, folder: Path, content: dict[str, Any]) -> Written:
        """What `as_json` gave."""
        return cls(folder, content["columns"], content["fragment"])


def storage_of(dataset: Path) -> str:
    """The version of Lance's file format that a table is written in."""
    return str(the_lance().dataset(str(dataset)).data_storage_version)


def write(folder: Path, rows: pa.Table, storage: str) -> Written:
    """Write documents, at least one, into a folder of their own."""
    fragments = the_lance().fragment.write_fragments(
        rows, str(folder), mode="create", data_storage_version=storage, max_rows_per_file=len(rows)
    )
    if len(fragments) != 1:
        raise ValueError(f"{len(rows)} documents were written into {len(fragments)} files, expected one")
    return Written(folder, rows.schema.names, fragments[0].to_json())


def commit(dataset: Path, written: Sequence[Written]) -> int:
    """Make files part of a table, in place of the documents with their ids: one version, or none.

    The caller holds the lock under which the table is changed, and the table has all of the files' columns.

    Parameters
    ----------
    dataset
        The table.
    written
        No two documents in them have the same id.

    Returns
    -------
    int
        How many documents were replaced.
    """
    lance = the_lance()
    table = lance.dataset(str(dataset))
    removed, updated, replaced = _without(table, written)
    numbers = {field.name(): field.id() for field in table.lance_schema.fields()}
    fresh = []
    for one in written:
        fragment = json.loads(json.dumps(one.fragment))
        (file,) = fragment["files"]
        # In a file by itself columns are numbered from 0; in the table they have the numbers they were given there.
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
    """The table's fragments without the documents that are written anew: those that are gone, those that lose some."""
    if not table.count_rows():
        return [], [], 0
    ids = pa.chunked_array([chunk for one in written for chunk in _ids(one).chunks], pa.string())
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


def _ids(written: Written) -> pa.ChunkedArray:
    from lance.file import LanceFileReader

    return LanceFileReader(str(written.file), columns=["id"]).read_all().to_table()["id"]


def _put(file: Path, target: Path) -> None:
    """A file in its place, and where it was as well, so that what is interrupted here can be done again."""
    if target.exists() and target.stat().st_size == file.stat().st_size:
        return  # a commit was interrupted after this
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(file, target)
    except OSError:  # a file system that has no links
        with whole_file(target) as scratch:
            shutil.copyfile(file, scratch)


def the_lance() -> Any:
    """The package `lance`.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        import lance
        import lance.fragment
    except ImportError:
        raise MissingExtraError("pylance", "ray") from None
    return lance
