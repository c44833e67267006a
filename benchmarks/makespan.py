"""Time of a finished study's stages on a number of workers, with its trials started in another order.

    python -m benchmarks.makespan RESULTS/STUDY --workers 2 4 8

Every trial takes its measured seconds, and a free worker starts the next one. Before: the search asks its cells in the study's order,
and confirm runs start seed by seed. After: they start in the order of `study/search/scheduling_order.py`. `seen` is the time of the
study itself.
"""

import heapq
import json
from pathlib import Path
from statistics import mean

from benchmarks import arguments
from study.conduct.after_search import controls
from study.question.cell import Cell
from study.records import Ask, Stage, TrialResult
from study.search.scheduling_order import expected_seconds
from study.tracking.ledger import Ledger


def makespan(seconds: list[float], workers: int) -> float:
    """Return the seconds until the last trial ends, where trials start in this order as soon as a worker is free."""
    free = [0.0] * workers
    for cost in seconds:
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


def orders(ledger: Ledger, stage: Stage) -> tuple[list[float], list[float]]:
    """Return the seconds of the stage's trials in the order before and after.

    The search has rounds of one trial per cell. After, the most expensive cell of earlier rounds starts first in each.
    """
    results = ledger.results()
    asks = [a for a in ledger.asks(stage) if a.trial_id in results]
    order = {cell.id: k for k, cell in enumerate(_study_cells(ledger))}
    asks.sort(key=lambda a: (a.number, order.get(a.cell, 0)))

    def seconds(own: list[Ask]) -> list[float]:
        return [results[a.trial_id].seconds for a in own]

    if stage is Stage.SEARCH:
        seen: dict[str, list[float]] = {}
        after: list[Ask] = []
        for number in sorted({a.number for a in asks}):
            mine = sorted((a for a in asks if a.number == number), key=lambda a: -mean(seen[a.cell]) if a.cell in seen else 0.0)
            after += mine
            for ask in mine:
                seen.setdefault(ask.cell, []).append(results[ask.trial_id].seconds)
    else:
        known: list[tuple[Ask, TrialResult]] = [(a, results[a.trial_id]) for a in ledger.asks(Stage.SEARCH) if a.trial_id in results]
        after = sorted(asks, key=expected_seconds(known, controls()), reverse=True)
    return seconds(asks), seconds(after)


def _study_cells(ledger: Ledger) -> tuple[Cell, ...]:
    study = ledger.study()
    assert study is not None, "no study is there"
    return study.cells


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("study", type=Path, help="the folder of a study")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8])
    args = parser.parse_args()
    ledger, rows = Ledger(str(args.study.parent), args.study.name), []
    for stage in (Stage.SEARCH, Stage.CONFIRM):
        before, after = orders(ledger, stage)
        if not before:
            continue
        own = [r for a in ledger.asks(stage) if (r := ledger.result(a.trial_id)) is not None]
        seen = max(r.ended_at for r in own) - min(r.started_at for r in own)
        print(f"{stage}: {len(before)} trials, {sum(before):.0f} s of training, seen {seen:.0f} s")
        for workers in args.workers:
            was, now = makespan(before, workers), makespan(after, workers)
            least = max(sum(before) / workers, max(before))
            rows.append({"stage": stage.value, "workers": workers, "before": was, "after": now, "least": least})
            print(
                f"  {workers} workers: {was:8.1f} s before, {now:8.1f} s after ({was / now:.2f} times); no order takes "
                f"less than {least:.1f} s"
            )
    if args.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
