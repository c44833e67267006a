"""A table of predictions that can be interrupted: a row an image, written as it is made; whoever comes back goes on behind the last whole row.

Columns: image, class, probability (of that class), p(CLASS) of every class, problem (why an image could not be read), network.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from study.errors import ConfigError
from study.facts import harmless
from study.files import make_private
from study.refusals import explained


class PredictionsCsv:
    """Use as a context manager; `done` are the images that have a row. Raises ConfigError where the file is of another network."""

    def __init__(self, path: Path, classes: Sequence[str], network: str) -> None:
        self.path, self.network = path.absolute(), network
        self.classes = list(classes)
        self.header = ["image", "class", "probability", *(f"p({c})" for c in classes), "problem", "network"]
        self.done: set[str] = set()
        self._file: IO[str] | None = None

    def __enter__(self) -> "PredictionsCsv":
        if self.path.exists() and not self.path.is_file():
            raise ConfigError(f"{self.path} is no file that rows can be added to; choose another with --csv.")
        with explained(str(self.path)):
            whole = self._resume() if self.path.exists() else 0
            make_private(str(self.path.parent))
            self._file = open(self.path, "a", newline="", encoding="utf-8", errors="surrogateescape")
            self._file.truncate(whole)
        self._writer = csv.writer(self._file, lineterminator="\n")
        if not whole:
            self._write([self.header])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._file is not None
        self._file.close()

    def has(self, image: str) -> bool:
        return _named(image) in self.done

    def add(self, images: Sequence[str], shares: np.ndarray) -> None:
        """Probabilities [N, classes], each in its shortest exact form."""
        best = shares.argmax(axis=1)
        texts = [[str(v) for v in row] for row in shares]
        self._write(
            [_named(name), harmless(self.classes[k]), row[k], *row, "", self.network]
            for name, k, row in zip(images, best, texts, strict=True)
        )

    def add_problems(self, problems: Sequence[tuple[str, str]]) -> None:
        """(image, why it cannot be read)."""
        self._write([_named(name), "", "", *("" for _ in self.classes), reason, self.network] for name, reason in problems)

    def _write(self, rows: Any) -> None:
        assert self._file is not None
        with explained(str(self.path)):
            self._writer.writerows(rows)
            self._file.flush()
            os.fsync(self._file.fileno())

    def _resume(self) -> int:
        """Bytes of the rows that are whole; the images they speak of go to `done`. What a kill tore at the end is written anew."""
        read = whole = 0
        ended = False

        def lines() -> Iterator[str]:
            nonlocal read, ended
            for line in file:
                read, ended = read + len(line), line.endswith(b"\n")
                yield line.decode("utf-8", "surrogateescape")

        with open(self.path, "rb") as file:
            for number, row in enumerate(csv.reader(lines())):
                if not ended:
                    break
                if number == 0 and row != self.header:
                    raise ConfigError(f"{self.path} has other columns than these predictions; choose another file with --csv.")
                if number and (len(row) != len(self.header) or row[-1] != self.network):
                    raise ConfigError(f"{self.path} holds predictions of another network ({row[-1][:60]}); choose another file with --csv.")
                if number:
                    self.done.add(row[0])
                whole = read
        return whole


def _named(image: str) -> str:
    """Its path; a carriage return in it would end a row for whoever reads the table."""
    return harmless(image).replace("\r", "\\r")
