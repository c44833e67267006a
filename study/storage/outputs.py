"""Checks of every file that a user names for output (a page, a list, a table, a database), and the writing of pages and tables.

A regular file may be replaced where it holds a page of the same kind, a table of the same columns, or nothing. A device, a pipe and a
study's own files are never replaced. Any other file is replaced only where the user says so (--overwrite).
"""

import csv
import io
import os
import sqlite3
import stat
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from study.console.text import redact, shown
from study.errors import ConfigError
from study.storage.folder import Folder, is_url
from study.storage.refusals import explained

HEAD = 65_536  # bytes: all that tells pages and lists from others
KEPT = (".html", ".csv")  # what may lie in a study's folder beside its own files
SQLITE = "sqlite:///"
TRIALS = "trials"
STUDY = "study.json"  # marks a study's folder


@dataclass(frozen=True)
class Kind:
    """A kind of output file: its name in words, and how it is recognised. `is_ours` may raise anything for a file that it cannot read."""

    name: str
    is_ours: Callable[[BinaryIO], bool]


def page(name: str) -> Kind:
    """Return the kind of a page that has `stamp(name)` in its head."""

    def is_ours(file: BinaryIO) -> bool:
        head = file.read(HEAD).decode("utf-8", "replace")
        return head.lstrip().lower().startswith("<!doctype html") and stamp(name) in head

    return Kind(f"page of {name}", is_ours)


def stamp(name: str) -> str:
    """Return the line in a page's head by which it is recognised later."""
    return f'<meta name="generator" content="finetune-study: {name}">'


def listed(name: str, columns: Sequence[str]) -> Kind:
    """Return the kind of a CSV file with exactly these columns."""
    return Kind(name, lambda file: _header(file.read(HEAD)) == list(columns))


def table(columns: Sequence[str], format: str) -> Kind:
    """Return the kind of a study's table, csv or parquet.

    The file may have fewer columns, from before the study grew; a file with an additional column is not ours.
    """

    def is_ours(file: BinaryIO) -> bool:
        if format == "parquet":
            from pyarrow.parquet import read_schema

            known = list(read_schema(file).names)
        else:
            head = file.read(HEAD)
            if not head.startswith((b'"', b"\n")):  # ours have every name in quotes
                return False
            known = _header(head)
        return set(known) - {""} <= set(columns)

    return Kind(f"{format} table of a study", is_ours)


def _header(data: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(data.decode("utf-8", "replace"))), [])


def check_place(path: str | os.PathLike[str], option: str) -> None:
    """Raise ConfigError where no output may ever be written: in the place of a folder, a device, a pipe, or a study's own file."""
    text = os.fspath(path)
    where, way_out = shown(redact(text)), f"choose another file with {option}."
    if not text or text.endswith("/"):
        raise ConfigError(f"{where or 'nothing'} is no name of a file; {way_out}")
    if (study := _study_of(text)) is not None:
        raise ConfigError(f"{where} is a place for the study's own files ({shown(redact(study))}); {way_out}")
    if is_url(text):
        return
    with explained(text, reading=True, another=f"choose another file with {option}"), suppress(FileNotFoundError):
        mode = os.stat(_local(text)).st_mode
        if stat.S_ISDIR(mode):
            raise ConfigError(f"{where} is a folder. Name a file in it with {option}.")
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{where} is {_special(mode)}, no file: nothing is written there; {way_out}")


def check_output(path: str | os.PathLike[str], kind: Kind, option: str, *, overwrite: bool = False) -> None:
    """Raise ConfigError where `path` holds, or is, something that must not be replaced.

    Call it before work that takes long; `write_output` calls it again.
    """
    text = os.fspath(path)
    check_place(text, option)
    if overwrite:
        return
    there = _opened(text)
    if there is None:
        return
    with there:
        if not there.read(1):
            return
        there.seek(0)
        with suppress(Exception):  # whatever a reader makes of bytes that are not its own
            if kind.is_ours(there):
                return
    raise ConfigError(
        f"{shown(redact(text))} is there already and is no {kind.name}. Choose another file with {option}, or replace it with --overwrite."
    )


def write_output(path: str | os.PathLike[str], data: bytes, kind: Kind, option: str, *, overwrite: bool = False) -> None:
    """Write the whole file or nothing, where `check_output` allows it. A symbolic link stays and its target is written.

    Raises ConfigError, EnvironmentProblem.
    """
    check_output(path, kind, option, overwrite=overwrite)
    folder, name = _parted(os.fspath(path))
    folder.write(name, data)


def check_database(uri: str, whose: str, tables: Collection[str], option: str, *, damaged: bool = False) -> None:
    """Raise ConfigError where the SQLite file at `uri` is no database of `whose`, recognised by `tables`, since theirs would be added to
    it.

    `damaged`: a file that is no database at all passes, because its opener will report the loss. Addresses other than SQLite pass.
    """
    if not uri.startswith(SQLITE):
        return
    path = uri.removeprefix(SQLITE).partition("?")[0]
    check_place(path, option)
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        return
    names: set[str] | None = None
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=ro", uri=True)) as database:
        names = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if (names is None and damaged) or set(tables) <= (names or set()):
        return
    raise ConfigError(f"{shown(path)} is there already and is no database of {whose}. Choose another file with {option}.")


def _parted(path: str) -> tuple[Folder, str]:
    if is_url(path):
        parent, _, name = path.rpartition("/")
        return Folder(parent), name
    full = Path(os.path.realpath(_local(path)))
    return Folder(str(full.parent)), full.name


def _local(path: str) -> str:
    return path.removeprefix("file://")


def _opened(path: str) -> BinaryIO | None:
    """Return the opened file, or None where there is none."""
    if is_url(path):
        folder, name = _parted(path)
        data = folder.read(name)
        return None if data is None else io.BytesIO(data)
    with explained(path, reading=True), suppress(FileNotFoundError):
        return open(os.path.realpath(_local(path)), "rb")
    return None


def _study_of(path: str) -> str | None:
    """Return the folder of the study whose own file this is or would be; None where it belongs to no study."""
    if is_url(path):
        parent, _, name = path.rpartition("/")
        return parent if not name.endswith(KEPT) and Folder(parent).exists(STUDY) else None
    full = Path(os.path.realpath(_local(path)))
    for folder in full.parents:
        below = full.relative_to(folder).parts
        own = below[0] == TRIALS or (len(below) == 1 and not below[0].endswith(KEPT))
        if own and (folder / STUDY).is_file():
            return str(folder)
    return None


def _special(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "a device")
