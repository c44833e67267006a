"""The reader of CSV files of unknown origin, the same for every data set: each fault is named with file, line and way out."""

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from study.datasets.archives import Limits, read_unpacked
from study.errors import DataError
from study.storage.parquet import Bounds

LIMITS = Limits(bytes=2_000_000_000)  # FER2013, the largest known, has 0.3 GB

LONGEST_LINE = 10_000_000  # characters; an image of FER2013 has 10,000
BOUNDS = Bounds(values=50_000_000, bytes=2_000_000_000)  # read into Python's own texts, which take fifty bytes each
T = TypeVar("T", str, bytes)

Row = tuple[int, list[str]]  # line number, fields


def read_columns(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> tuple[list[tuple[int, dict[str, str]]], str]:
    """Return (line number, stripped value by column) of every row, and the file's SHA-256.

    Columns are found by name, in any order and any case; others are ignored. A missing optional one is not in the rows. Raises DataError
    for a header that lacks a column or has it twice, a row of another length, or no row at all.
    """
    rows, digest = read_rows(path)
    header = [h.strip().lstrip("\ufeff").strip('"').lower() for h in rows[0][1]] if rows else []
    wanted = {name: header.index(name.lower()) for name in (*needed, *optional) if name.lower() in header}
    if missing := [name for name in needed if name not in wanted]:
        other = next((d for d in ";\t|" if len(missing) == len(needed) and d in ",".join(header)), None)
        raise DataError(
            f"{path}: the header is {','.join(header)[:80]!r}. It needs the columns {' and '.join(needed)}"
            + (f" (and {', '.join(optional)})" if optional else "")
            + (f". It looks separated by {other!r}, save it with commas." if other else ".")
        )
    if twice := [name for name in wanted if header.count(name.lower()) > 1]:
        raise DataError(f"{path}:{rows[0][0]}: the header has the column {twice[0]!r} twice. Keep one.")
    if len(rows) == 1:
        raise DataError(f"{path} holds a header and no row. Correct it, or get it again.")
    out = []
    for line, fields in rows[1:]:
        check_length(path, line, fields, len(header))
        out.append((line, {name: fields[k].strip() for name, k in wanted.items()}))
    return out, digest


def read_rows(path: Path, delimiter: str = ",") -> tuple[list[Row], str]:
    """Return every row that is not blank, the header too, and the file's SHA-256. Raises DataError."""
    text, digest = read_text(path)
    count = Count(path)
    reader = csv.reader((count.line(line) for line in io.StringIO(text)), strict=True, delimiter=delimiter)
    rows: list[Row] = []
    try:
        for fields in reader:
            if any(f.strip() for f in fields):
                count.row(len(fields))
                rows.append((reader.line_num, fields))
        return rows, digest
    except csv.Error as error:
        reason = "a line ends in CR alone. Save it with the line ends of Unix or Windows" if "new-line" in str(error) else str(error)
        raise DataError(f"{path}:{reader.line_num}: {reason}. Correct it, or get it again.") from None


class Count:
    """A count of what was read of a table, so that a small file cannot fill the machine's memory. Its methods raise DataError."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self.values = path, 0, 0

    def line(self, text: T) -> T:
        if len(text) > LONGEST_LINE:
            raise DataError(
                f"{self.path}: a line has {len(text):,} characters, more than the {LONGEST_LINE:,} that are read. Get it again."
            )
        return text

    def row(self, values: int) -> None:
        self.rows, self.values = self.rows + 1, self.values + values
        for what, found, most in (("rows", self.rows, BOUNDS.rows), ("values", self.values, BOUNDS.values)):
            if found > most:
                raise DataError(f"{self.path} has more than the {most:,} {what} that are read. Split it, or get it again.")


def check_length(path: Path, line: int, fields: Sequence[str], length: int) -> None:
    if len(fields) != length:
        raise DataError(
            f"{path}:{line}: has {len(fields)} columns, the header {length}. The file may be cut short, correct it or get it again."
        )


def whole(text: str, most: int, path: Path, line: int, column: str) -> int:
    """Return a number 0..most; at most three digits, so that no text of a million digits is ever converted. Raises DataError."""
    value = text.strip()
    if not (value.isascii() and value.isdigit() and len(value) <= 3 and int(value) <= most):
        raise DataError(f"{path}:{line}: {column} is {value[:40]!r}. It must be a whole number 0..{most}.")
    return int(value)


def bare_name(text: str, path: Path, line: int, column: str) -> str:
    """Return the name of a file that has no folder in it. Raises DataError."""
    if "/" in text or "\\" in text or text in ("", ".", ".."):
        raise DataError(f"{path}:{line}: {column} is {text[:80]!r}. It must be a bare file name.")
    return text


def read_text(path: Path) -> tuple[str, str]:
    """Return a file's text in UTF-8, and its SHA-256. Raises DataError for another encoding, naming the line."""
    data = read_unpacked(path, LIMITS)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path} is UTF-16. Save it as UTF-8 (iconv -f UTF-16 -t UTF-8).")
    if (nul := data.find(0)) >= 0:
        raise DataError(f"{path}:{_line(data, nul)}: holds a NUL byte. It is damaged or no CSV, get it again.")
    try:
        return data.decode("utf-8-sig"), hashlib.sha256(data).hexdigest()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{_line(data, error.start)}: byte {data[error.start]:#x} is not UTF-8. Save it as UTF-8 (iconv -f LATIN1 -t "
            "UTF-8), or get it again."
        ) from None


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1
