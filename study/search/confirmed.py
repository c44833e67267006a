"""The runs that confirm a study's winners, and their multiple of its epochs. A run is known by its id, whichever stage asked for it
first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from study.question.cell import Cell, question_of
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.search.seeds import confirm_config

Chosen = Mapping[str, Sequence[str]]
"""Trials of the search whose configurations are confirmed, by cell: one a search, empty where that search found none."""


def planned(
    study: Study, winners: Mapping[str, Sequence[TrialConfig | None]], factors: Mapping[str, int]
) -> Iterator[tuple[str, int, TrialConfig]]:
    """Yield (cell, number, configuration) of every confirm run.

    `winners`: by cell, the winner of each search; `factors`: times the epochs, 1 where a cell is not named. Run k trains the winner of
    search k mod R, and is left out where that search found none.
    """
    for number in range(study.confirm_seeds):
        for cell, own in winners.items():
            winner = own[study.search_of(number, len(own))]
            if winner is not None:
                yield cell, number, confirm_config(study, winner, number, factor=factors.get(cell, 1))


def record_of(study: Study, budgets: Sequence[Mapping[str, Any]], chosen: Chosen, cell: str) -> Mapping[str, Any] | None:
    """Return the decision on the budget of the cell's question.

    None where there is none, where it was made for other winners or cells than today's, or before the study asked the same at a longer
    budget.
    """
    own = next((c for c in study.cells if c.id == cell), None)
    if own is None or not study.is_longest(own):
        return None
    on = {c.id: list(chosen[c.id]) for c in study.cells if c.question == own.question and c.id in chosen}
    return next((b for b in budgets if question_of(b) == own.question and b["on"] == on), None)


def factors_of(study: Study, budgets: Sequence[Mapping[str, Any]], chosen: Chosen) -> dict[str, int]:
    """Return by cell the multiple of the study's epochs that its confirm runs train."""
    if not budgets:
        return {}
    found = {cell: record_of(study, budgets, chosen, cell) for cell in chosen}
    return {cell: int(record["factor"]) for cell, record in found.items() if record is not None}


class Round(NamedTuple):
    """One check of a question: runs at `factor` times the epochs, compared with those at `against` times."""

    against: int
    factor: int


def checks(study: Study, cell: Cell) -> int:
    """Return the least number of runs of the budget check that are planned for the cell.

    It is 0 where the study asks the same at a longer budget, since a check would look for exactly that.
    """
    return int(bool(study.budget_check and study.confirm_seeds and study.is_longest(cell)))


def next_round(study: Study, cell: Cell, record: Mapping[str, Any] | None) -> Round | None:
    """Return the check that the cell's question still needs after the decisions on it; None where its budget is settled."""
    if not checks(study, cell):
        return None
    if record is None:
        return Round(1, study.budget_check)
    last = record["rounds"][-1]
    longer = last["factor"] * study.budget_check
    if any(own["state"] == "gains" for own in last["strategies"].values()) and longer <= study.longest:
        return Round(last["factor"], longer)
    return None


def checked_number(winners: Sequence[str], best: str) -> int:
    """Return the confirm run whose seed and part a cell's check takes: the first of the search that found its `best` trial."""
    return winners.index(best) if best in winners else next(k for k, t in enumerate(winners) if t)
