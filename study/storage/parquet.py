"""Parquet files that strangers made, read with bounds: a few kilobytes may hold billions of rows, or one text a million times."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

A_BATCH = 4096  # rows decoded at a time, texts as numbers of their dictionary


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits that no file of its kind comes near."""

    rows: int = 5_000_000
    columns: int = 10_000
    values: int = 500_000_000  # of all columns
    bytes: int = 4_000_000_000  # of all columns, decoded


def read(source: Path | bytes, bounds: Bounds | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the whole table, or `columns` of it.

    Raises ValueError with the reason for one beyond the bounds, and what pyarrow raises for a file that is no Parquet.
    """
    bounds = bounds or Bounds()
    _checked(source, bounds, lambda name: columns is None or name in columns)
    return pq.read_table(io.BytesIO(source) if isinstance(source, bytes) else source, columns=columns, memory_map=False)


def batches(path: Path, bounds: Bounds, wanted: Callable[[pa.DataType], bool]) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    """(the names of all columns, the rows of those whose type is wanted, some at a time). Raises as `read` does, also while it is read."""
    schema = pq.read_schema(path, memory_map=False)
    names = [f.name for f in schema if wanted(f.type)]
    if twice := {n for n in schema.names if schema.names.count(n) > 1} if len(schema.names) <= bounds.columns else set():
        raise ValueError(f"it has the column {min(twice)!r} twice")
    _checked(path, bounds, lambda name: name in names)
    return schema.names, _batches(path, names, [f.name for f in schema if is_text(f.type)], bounds)


def _batches(path: Path, names: Sequence[str], texts: list[str], bounds: Bounds) -> Iterator[pa.RecordBatch]:
    size = 0
    with pq.ParquetFile(path, memory_map=False, read_dictionary=texts) as file:
        for batch in file.iter_batches(A_BATCH, columns=list(names)):
            size += sum(_size(column) for column in batch.columns)
            if size > bounds.bytes:
                raise ValueError(f"its text is longer than {bounds.bytes / 1e9:g} GB")
            yield batch


def _checked(source: Path | bytes, bounds: Bounds, wanted: Callable[[str], bool]) -> None:
    """Check the file by what it says of itself, before anything is decoded."""
    about = pq.read_metadata(io.BytesIO(source) if isinstance(source, bytes) else source, memory_map=False)
    values = size = 0
    if about.num_columns <= bounds.columns:
        for group in (about.row_group(k) for k in range(about.num_row_groups)):
            for column in (group.column(k) for k in range(group.num_columns)):
                if wanted(column.path_in_schema.partition(".")[0]):
                    values, size = values + column.num_values, size + column.total_uncompressed_size
    for what, found, most in (
        ("rows", about.num_rows, bounds.rows),
        ("columns", about.num_columns, bounds.columns),
        ("values", values, bounds.values),
        ("bytes, unpacked", size, bounds.bytes),
    ):
        if not 0 <= found <= most:
            raise ValueError(f"it has {found:,} {what}, more than the {most:,} that are read")


def is_text(kind: pa.DataType) -> bool:
    """Return True where a column of this type holds texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _size(column: pa.Array) -> int:
    """Bytes of a column as its rows would hold it, each text as often as it occurs."""
    if not pa.types.is_dictionary(column.type) or not is_text(column.type.value_type):
        return int(column.nbytes)
    lengths = pc.cast(pc.binary_length(column.dictionary), pa.int64())
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0)
