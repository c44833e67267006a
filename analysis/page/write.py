"""Writing of tables to files: CSV that no spreadsheet can be made to run, with exact numbers."""

import csv
import io

import pandas as pd

from study.console.text import harmless
from study.errors import ConfigError
from study.storage import outputs


def csv_bytes(table: pd.DataFrame) -> bytes:
    """Return UTF-8 CSV with floats in their shortest exact form, so that reading gives back the same numbers."""
    safe = table.copy()
    for column in safe.columns[[not pd.api.types.is_numeric_dtype(t) for t in safe.dtypes]]:
        safe[column] = safe[column].map(harmless)
    safe.columns = [str(harmless(c)) for c in safe.columns]
    return safe.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).encode("utf-8", "backslashreplace")


def write_tables(tables: dict[str, pd.DataFrame], folder: str, kind: str = "csv", *, overwrite: bool = False) -> None:
    """Write one file per table that has columns, or none where one of them must not be written. `kind` is csv or parquet.

    Raises ConfigError for another kind, and where another file has a table's name.
    """
    if kind not in ("csv", "parquet"):
        raise ConfigError(f"tables can be csv or parquet, not {kind!r}.")
    named = {f"{folder.rstrip('/')}/{name}.{kind}": t for name, t in tables.items() if len(t.columns)}
    kinds = {path: outputs.table([str(harmless(c)) for c in t.columns], kind) for path, t in named.items()}
    for path in named:
        outputs.check_output(path, kinds[path], "--tables", overwrite=overwrite)
    for path, own in named.items():
        outputs.write_output(path, csv_bytes(own) if kind == "csv" else _parquet(own), kinds[path], "--tables", overwrite=overwrite)


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
