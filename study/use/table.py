"""A table of predictions that can be interrupted: one row per image, written as it is made, and continued behind the last whole row.

Columns: image, class, probability (of that class), p(CLASS) of every class, what else was asked for (study/use/asked.py), problem (why
an image could not be read), network. For images with several labels the column labels stands for class and probability.
"""

import contextlib
import csv
import errno
import fcntl
import functools
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np

from study.console.text import harmless, utf8
from study.errors import ConfigError, EnvironmentProblem
from study.storage import outputs
from study.storage.folder import make_private, sync_folder
from study.storage.refusals import explained

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of file systems that have none


class MoreColumns(Protocol):
    """The further columns of a picture."""

    @property
    def names(self) -> Sequence[str]: ...

    def rows(self, images: Sequence[str], shares: np.ndarray) -> list[list[str]]:
        """A text for each of `names`, of every picture; `shares`: probabilities [N, C]."""
        ...


class PredictionsCsv:
    """The table as a context manager that locks the file.

    `done` are the images that have a row; `retried` are those of `images` that could not be read before and have lost that row. Raises
    ConfigError where the file is of another network, EnvironmentProblem where another process writes it.
    """

    def __init__(
        self,
        path: Path,
        classes: Sequence[str],
        network: str,
        images: Iterable[str] = (),
        more: MoreColumns | None = None,
        *,
        several: bool = False,
    ) -> None:
        """Note the table's columns. `several`: an image may have several of the classes, as labels."""
        self._given, self.path, self.network, self.more = path, Path(os.path.realpath(path)), network, more
        self.classes, self.several = list(classes), several
        said = ["labels"] if several else ["class", "probability"]
        self.header = ["image", *said, *(utf8(f"p({c})") for c in classes), *(more.names if more else ()), "problem", "network"]
        self.done: set[str] = set()
        self.retried: set[str] = set()
        self._asked = {_key(_named(i)) for i in images}
        self._file: IO[str] | None = None
        self._written = 0.0  # when its rows were, at the latest

    def __enter__(self) -> "PredictionsCsv":
        for path in (self._given, self.path):  # a pipe under /dev has a path of its own, where nothing is
            outputs.check_place(path, "--csv")
        with explained(str(self.path)):
            make_private(str(self.path.parent))
            self._file = self._opened(self.path)
            self._written = os.fstat(self._file.fileno()).st_mtime
            try:
                whole = self._resume()
                if self.retried:
                    self._leave_out()
                else:
                    self._file.truncate(whole)
            except BaseException:
                self._file.close()
                raise
        self._file.seek(0, os.SEEK_END)
        self._writer = csv.writer(self._file, lineterminator="\n")
        if not whole:
            self._write([self.header])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._file is not None
        self._file.close()  # and with it the lock

    def has(self, image: str) -> bool:
        return _key(_named(image)) in self.done

    def is_older_than(self, image: str) -> bool:
        """Return True where an image has a row and was changed since the table was last written: it may show something else now."""
        with contextlib.suppress(OSError):
            return self.has(image) and os.stat(image).st_mtime > self._written
        return False

    def add(self, images: Sequence[str], shares: np.ndarray, named: np.ndarray | None = None) -> None:
        """Add rows for probabilities [N, classes], each in its shortest exact form, and the place [N] of the predicted class.

        The class is the likeliest where none is given. For several labels `named` is bool [N, classes].
        """
        best = shares.argmax(axis=1) if named is None else named
        texts = [[str(v) for v in row] for row in shares]
        rest = self.more.rows(images, shares) if self.more else [[]] * len(texts)
        self._write(
            [_named(name), *self._said(own, row), *row, *others, "", self.network]
            for name, own, row, others in zip(images, best, texts, rest, strict=True)
        )

    def _said(self, own: np.ndarray, row: list[str]) -> list[str]:
        """Return the labels of an image, joined as a table of labels has them; or its class and that one's probability."""
        if self.several:
            return ["|".join(harmless(self.classes[k]) for k in np.flatnonzero(own))]
        return [harmless(self.classes[own]), row[own]]

    def add_problems(self, problems: Sequence[tuple[str, str]]) -> None:
        """Write rows of (image, why it cannot be read)."""
        empty = [""] * (len(self.header) - 3)
        self._write([_named(name), *empty, reason, self.network] for name, reason in problems)

    def _write(self, rows: Any) -> None:
        assert self._file is not None
        with explained(str(self.path)):
            self._writer.writerows(rows)
            self._file.flush()
            os.fsync(self._file.fileno())

    def _opened(self, path: Path) -> IO[str]:
        """Return the file, made where it is missing, and locked. A file that another process puts there meanwhile is opened instead."""
        while True:
            file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", newline="", encoding="utf-8", errors="backslashreplace")
            try:
                self._lock(file)
                if os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    return file
            except BaseException:
                file.close()
                raise
            file.close()

    def _lock(self, file: IO[str]) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentProblem(
                f"{self.path} is being written by another study.predict. Wait for it, or choose another file with --csv."
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise

    def _leave_out(self) -> None:
        """Write the table anew without the rows of images that are tried again; the complete file then replaces the old one."""
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            new = self._opened(temporary)
            new.truncate(0)
            writer = csv.writer(new, lineterminator="\n")
            for row, ended in self._rows():
                if ended and not (_is_problem(row) and _key(_named(row[0])) in self.retried):
                    writer.writerow([_named(row[0]), *row[1:]])
            new.flush()
            os.fsync(new.fileno())
            os.chmod(temporary, os.stat(self.path).st_mode)
            os.replace(temporary, self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(str(self.path.parent))
        assert self._file is not None
        self._file.close()
        self._file = new

    def _rows(self) -> Iterator[tuple[list[str], int]]:
        """Yield each row with the bytes read up to its end, or 0 where it is torn."""
        read, ended = 0, False

        def lines() -> Iterator[str]:
            nonlocal read, ended
            for line in file:
                read, ended = read + len(line), line.endswith(b"\n")
                yield line.decode("utf-8", "surrogateescape")

        with open(self.path, "rb") as file:
            try:
                for row in csv.reader(lines()):
                    yield row, read if ended else 0
            except csv.Error:
                raise ConfigError(f"{self.path} is no table of predictions. Choose another file with --csv.") from None

    def _resume(self) -> int:
        """Return the bytes of the whole rows; their images go to `done`. A row torn by a kill at the end is written anew."""
        whole = 0
        for number, (row, end) in enumerate(self._rows()):
            if number == 0 and row != self.header and (end or not self._is_torn_header()):
                raise ConfigError(f"{self.path} has other columns than these predictions. Choose another file with --csv.")
            if not end:
                break
            if number and (len(row) != len(self.header) or row[-1] != self.network):
                raise ConfigError(f"{self.path} holds predictions of another network ({row[-1][:60]}). Choose another file with --csv.")
            if number:
                key = _key(_named(row[0]))
                (self.retried if _is_problem(row) and key in self._asked else self.done).add(key)
            whole = end
        return whole

    def _is_torn_header(self) -> bool:
        """Return True where the file holds only the beginning of our first row, as a kill leaves it."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(self.header)
        return text.getvalue().encode("utf-8", "backslashreplace").startswith(self.path.read_bytes())


def _is_problem(row: Sequence[str]) -> bool:
    return bool(row[-2])


def _named(image: str) -> str:
    """Return the path in UTF-8; a carriage return in it would end a row for readers of the table."""
    return harmless(utf8(image)).replace("\r", "\\r")


def _key(named: str) -> str:
    """Return one key for all names of an image: relative, in full, or by a link to its folder."""
    folder, name = os.path.split(named)
    return f"{_resolved(folder)}/{name}"


@functools.lru_cache(maxsize=4096)
def _resolved(folder: str) -> str:
    return os.path.realpath(folder)
