"""The order in which trials start: the longest first, so that no stage ends with one long trial on an idle machine.

This is longest processing time first (Graham 1969): at most 4/3 of the shortest possible makespan.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from statistics import mean

from study.question.cell import question_of
from study.records import Ask, TrialResult, dumps

Expected = Callable[[Ask], float]


def expected_seconds(ended: Iterable[tuple[Ask, TrialResult]], control_of: dict[str, str]) -> Expected:
    """Return the expected seconds of a future trial, from measured epochs.

    They are those with its own settings in its cell, else in its cell, else, for a control, in the cell of the strategy that it controls.
    Without any, the answer is infinite, so that the trial is run and known first.
    """
    exact: dict[tuple[str, str], list[float]] = defaultdict(list)
    cells: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for ask, result in ended:
        if result.epochs:
            exact[ask.cell, dumps(ask.config["strategy"])].append(result.seconds / result.epochs)
            cells[_question(ask)].append(result.seconds / result.epochs)

    def expected(ask: Ask) -> float:
        of = control_of.get(ask.config["cell"]["strategy"], "")
        found = exact.get((ask.cell, dumps(ask.config["strategy"]))) or cells.get(_question(ask)) or cells.get(_question(ask, of))
        return mean(found) * int(ask.config["protocol"]["max_epochs"]) if found else math.inf

    return expected


def _question(ask: Ask, strategy: str = "") -> tuple[str, ...]:
    """Return the key of an epoch's cost, which does not depend on the fold or the number of epochs."""
    cell = ask.config["cell"]
    return (*map(str, question_of({**cell, "splits": "", "budget": 1})), strategy or cell["strategy"])


class SecondsByCell:
    """Seconds of a trial by cell, as measured so far in a search; until then `price` of the cell, or infinite where there is none."""

    def __init__(self, price: Callable[[str], float] | None = None) -> None:
        self._price = functools.cache(price) if price is not None else None
        self._seen: dict[str, list[float]] = defaultdict(list)

    def add(self, ask: Ask, result: TrialResult) -> None:
        self._seen[ask.cell].append(result.seconds)

    def __getitem__(self, cell: str) -> float:
        if seen := self._seen.get(cell):
            return mean(seen)
        return self._price(cell) if self._price is not None else math.inf
