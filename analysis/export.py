"""Tables to files: CSV that a spreadsheet cannot be made to run, numbers exact."""

import csv
import io
import os
from pathlib import Path

import pandas as pd

from study.errors import ConfigError
from study.facts import harmless
from study.files import Folder
from study.refusals import explained


def csv_bytes(table: pd.DataFrame) -> bytes:
    """UTF-8 CSV; floats in their shortest exact form, so that reading gives back the same numbers."""
    safe = table.copy()
    for column in safe.columns[[not pd.api.types.is_numeric_dtype(t) for t in safe.dtypes]]:
        safe[column] = safe[column].map(harmless)
    safe.columns = [str(harmless(c)) for c in safe.columns]
    return safe.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).encode("utf-8", "backslashreplace")


def write_tables(tables: dict[str, pd.DataFrame], folder: str, kind: str = "csv") -> None:
    """One file a table. `kind`: csv or parquet. Raises ConfigError for another kind."""
    if kind not in ("csv", "parquet"):
        raise ConfigError(f"tables can be csv or parquet, not {kind!r}.")
    target = Folder(folder)
    for name, table in tables.items():
        if kind == "csv":
            target.write(f"{name}.csv", csv_bytes(table))
        else:
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            target.write(f"{name}.parquet", buffer.getvalue())


def write_page(path: str | os.PathLike[str], data: bytes) -> None:
    """Atomically: an old page stays whole until the new one is."""
    if "://" in str(path):
        parent, _, name = str(path).rpartition("/")
        Folder(parent).write(name, data)
        return
    full = Path(path).absolute()
    with explained(str(full), len(data)):
        Folder(str(full.parent)).write(full.name, data)
