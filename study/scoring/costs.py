"""The cost of each wrong answer, from a CSV: rows are the truth, columns the predictions."""

import csv
import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.errors import ConfigError

MOST = 1000  # classes
EXAMPLE = "class,normal,pneumonia / normal,0,1 / pneumonia,10,0"


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of one answer each, in the user's own unit."""

    classes: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]  # [C][C], truth in rows

    @property
    def text(self) -> str:
        """Return all costs in one line of text, as a study keeps them."""
        return json.dumps([list(self.classes), *map(list, self.rows)], separators=(",", ":"), ensure_ascii=False)

    @property
    def least(self) -> float:
        """Return the cost of the cheapest mistake, the unit of a difference worth having; the largest cost where no mistake costs
        anything."""
        matrix = np.array(self.rows)
        off = matrix[~np.eye(len(matrix), dtype=bool)]
        return float(min(off[off > 0], default=matrix.max()))

    def matrix(self, classes: Sequence[str]) -> np.ndarray:
        """Return float64 [C, C] in the order of the data's `classes`. Raises ConfigError for other classes."""
        absent, strange = [c for c in classes if c not in self.classes], [c for c in self.classes if c not in classes]
        if strange:
            near = difflib.get_close_matches(strange[0], list(classes), n=1)
            meant = f"Did you mean {near[0]}?" if near else f"The classes are {_some(classes)}."
            raise ConfigError(
                f"the costs name a class {strange[0]!r} that the images do not have. {meant} Rename it there, or take it out."
            )
        if absent:
            raise ConfigError(
                f"the costs are of {len(self.classes)} classes and the images have {len(classes)}: {_some(absent)} missing. "
                f"Add a row and a column for each ({EXAMPLE})."
            )
        place = [self.classes.index(c) for c in classes]
        out: np.ndarray = np.array(self.rows, np.float64)[np.ix_(place, place)]
        return out


def parse_costs(text: str) -> Costs:
    """Return the costs of `Costs.text`. Raises ConfigError."""
    try:
        classes, *rows = json.loads(text)
        return _checked([str(c) for c in classes], [[float(v) for v in row] for row in rows], "the costs")
    except (ValueError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"the costs {text[:80]!r} cannot be read. Give a file: --metric cost:costs.csv ({EXAMPLE}).") from None


def read_costs(path: str) -> Costs:
    """Return the costs in a CSV with the classes above and before them. Raises ConfigError, which names the file and the line."""
    try:
        lines = [line for line in Path(path).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no costs to read ({type(error).__name__}). Give a CSV such as {EXAMPLE}.") from None
    separator = max(",;\t", key=lines[0].count) if lines else ","
    table = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    if len(table) < 3:
        raise ConfigError(f"{path} has {len(table)} lines. Costs need a line of classes and a line for each ({EXAMPLE}).")
    header, body = table[0][1:], table[1:]
    if (n := len(body)) != len(header):
        raise ConfigError(f"{path}: {n} rows and {len(header)} columns of costs. There must be one of each for every class ({EXAMPLE}).")
    rows = []
    for number, row in enumerate(body, 2):
        if len(row) != len(header) + 1:
            raise ConfigError(f"{path}, line {number}: {len(row) - 1} costs for {len(header)} classes. Give one for each column.")
        rows.append([_cost(cell, f"{path}, line {number}") for cell in row[1:]])
    names = [row[0] for row in body]
    if unlike := [c for c in names if c not in header]:
        raise ConfigError(f"{path}: a row is called {unlike[0]!r} and no column is. Rows and columns need the same classes.")
    if twice := [c for c in header if header.count(c) > 1]:
        raise ConfigError(f"{path}: two columns are called {twice[0]!r}. Keep one.")
    if twice := [c for c in names if names.count(c) > 1]:
        raise ConfigError(f"{path}: two rows are called {twice[0]!r}. Keep one.")
    for number, (name, own) in enumerate(zip(names, rows, strict=True), 2):
        right, cheapest = own[header.index(name)], min(range(len(own)), key=own.__getitem__)
        if right > own[cheapest]:  # Elkan 2001: no reasonable costs
            raise ConfigError(
                f"{path}, line {number}: to call {name!r} what it is costs {right:g}, and to call it {header[cheapest]!r} "
                f"{own[cheapest]:g}. What is right must not cost more. Give what each answer costs, not what it earns."
            )
    order = [names.index(c) for c in header]
    return _checked(header, [rows[k] for k in order], path)


def _cost(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ConfigError(f"{where}: {cell[:40]!r} must be a number, 0 or more. What is right usually costs 0.")
    return value


def _checked(classes: list[str], rows: list[list[float]], where: str) -> Costs:
    if not 2 <= len(classes) <= MOST or len(rows) != len(classes) or any(len(r) != len(classes) for r in rows):
        raise ConfigError(f"{where}: {len(rows)} rows for {len(classes)} classes. A square of 2 to {MOST} classes is needed ({EXAMPLE}).")
    if not all(math.isfinite(v) and v >= 0 for r in rows for v in r):
        raise ConfigError(f"{where}: costs must be numbers, 0 or more.")
    if len({v for r in rows for v in r}) < 2:
        raise ConfigError(f"{where}: every answer costs the same, so nothing can be decided by it. What is right usually costs 0.")
    return Costs(classes=tuple(classes), rows=tuple(map(tuple, rows)))


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
