"""The progress of a study for a number of hours, by the times of its own trials; its plan is fitted anew to it
(study/budget/leftover.py)."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from study.budget.leftover import Sofar
from study.budget.machine import cut_place
from study.conduct.stages import line_leads
from study.question.trial_config import TrialConfig
from study.records import Ask, Origin, Outcome, Stage, TrialResult
from study.tracking.ledger import Ledger


def how_far(ledger: Ledger, chosen: Mapping[str, Sequence[str]], began: float, *, trained: bool) -> Sofar:
    """Return where the study stands. `began`: unix time of its first trial after the line to beat. `trained`: its confirm runs ended too.

    Only the time in which trials ran says how fast the machine is: on few short trials, starting Ray and its workers takes as long again.
    """
    now, results, asks = time.time(), ledger.results(), {a.trial_id: a for a in ledger.asks()}
    own = [r for trial, r in results.items() if asks[trial].origin is not Origin.LINE and r.ended_at > began]
    ran = covered((max(r.started_at, began), r.ended_at) for r in own)
    stages = 2 if trained else 1
    return Sofar(
        now=now,
        seconds=ran,
        starting=max(now - began - ran, 0.0) / stages,
        won={cell: fmean(_place(asks[trial].config) for trial in found if trial) for cell, found in chosen.items() if any(found)},
        took=_took(asks, results, chosen, trained=trained),
        trained=trained,
        lengthened=any(b["factor"] > 1 for b in ledger.budgets()),
        exact=line_leads(ledger),
    )


def _took(
    asks: Mapping[str, Ask], results: Mapping[str, TrialResult], chosen: Mapping[str, Sequence[str]], *, trained: bool
) -> dict[str, float]:
    """Return by cell the mean seconds of a training of its winner: of the trials that the search chose, or of the confirm runs."""
    found: dict[str, list[float]] = {}
    for trial_id, result in results.items():
        ask = asks[trial_id]
        spoke = ask.stage is Stage.CONFIRM if trained else trial_id in chosen.get(ask.cell, ())
        if spoke and result.outcome is Outcome.COMPLETED and ask.cell in chosen:
            found.setdefault(ask.cell, []).append(result.seconds)
    return {cell: fmean(seconds) for cell, seconds in found.items()}


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of `spans`, each (begin, end)."""
    total, reached = 0.0, -math.inf
    for begin, end in sorted(spans):
        total += max(end - max(begin, reached), 0.0)
        reached = max(reached, end)
    return total


def _place(config: Mapping[str, object]) -> float:
    return cut_place(TrialConfig.from_dict(dict(config)).strategy)
