"""Reads Parquet row by row, in bounded memory however large a column is."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from polyencoders.data.examples import shortened
from polyencoders.data.lines import located, opened
from polyencoders.data.tables import check_distinct
from polyencoders.errors import DataError, MissingExtraError


def parquet_rows(
    path: Path, check_names: Callable[[Collection[str]], None], progress: Callable[[float], None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the rows as dicts, numbered from 1. Times are read to the microsecond. Errors name the file and the row.

    `check_names` raises a DataError for names of columns that are not as they should be; `progress` is told the
    fraction of the rows. Raises a MissingExtraError where ``pyarrow`` is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise MissingExtraError("pyarrow", "index") from None

    if path.suffix.lower() == ".gz":
        raise DataError(f"{path}: a gzipped Parquet file, which cannot be read in parts: unpack it first")
    number = 0
    with opened(path) as file, located(path):
        try:
            # Not buffered ahead: a column of a row group may be larger than memory.
            table = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20, coerce_int96_timestamp_unit="us")
            schema = table.schema_arrow
            check_distinct(schema.names)
            check_names(schema.names)
            for field in schema:
                if _is_binary(field.type):
                    raise DataError(f'the column "{field.name}" is binary ({field.type}), expected text: leave it out')
            readable = pa.schema([(field.name, _python_type(field.type)) for field in schema])
            for batch in table.iter_batches(256):
                for record in _python_values(batch.cast(readable, safe=False), number):
                    number += 1
                    progress(number / table.metadata.num_rows)
                    yield number, record
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            after = f" after row {number}" if number else ""
            raise DataError(f"not a Parquet file, or damaged{after} ({shortened(reason)[1:-1]})") from None


def _is_binary(kind: Any) -> bool:
    """Tells whether there are bytes anywhere in a column's values."""
    from pyarrow import BaseExtensionType, types

    if isinstance(kind, BaseExtensionType):
        return _is_binary(kind.storage_type)
    if types.is_dictionary(kind):
        return _is_binary(kind.value_type)
    if types.is_nested(kind):
        return any(_is_binary(kind.field(i).type) for i in range(kind.num_fields))
    tests = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(test(kind) for test in tests)


def _python_type(kind: Any) -> Any:
    """Returns the type with microseconds in place of nanoseconds, which Python's times lack."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    return pa.duration("us") if pa.types.is_duration(kind) and kind.unit == "ns" else kind


def _python_values(batch: Any, before: int) -> list[dict[str, Any]]:
    """Returns a batch's rows as dicts. An error names the row, of which `before` came earlier, and the column."""
    unusable = (ValueError, OverflowError, KeyError)  # invalid UTF-8, the year 10,000, no such time zone
    try:
        return list(batch.to_pylist())
    except unusable:
        for i in range(batch.num_rows):
            for name, array in zip(batch.schema.names, batch.columns, strict=True):
                try:
                    array[i].as_py()
                except unusable as error:
                    row = before + i + 1
                    raise DataError(f"row {row}: {name}: a value that Python cannot hold ({error})") from None
        raise
