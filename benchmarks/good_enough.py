"""Error rates of "taking it costs at most U points" and of "good enough": python -m benchmarks.good_enough [--studies 200]

Studies whose truth is known are simulated (benchmarks/worlds.py, and benchmarks/partitioned.py for outer folds). The last strategy is
the cheapest. The table shows by world:

- how often the bound of any strategy lies below the true cost of taking it (the bar: 5 %), and the median bound of the cheapest,
- how often some strategy that costs at most WORTH points is found for the cheapest, and how often one is called so that costs more.

Beside it stands the rule of the mean, where the cheapest is good enough if its expected loss is no more than the margin: how often it
says so, and how often falsely.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from analysis.findings.answers import turned
from analysis.statistics.cross_fitting import OuterFolds, cross_fit
from analysis.statistics.cross_fitting import difference as folds_difference
from analysis.statistics.decisions import ALPHA, decide, expected_loss, loss_bound, not_separated_from_best
from analysis.statistics.intervals import Estimate
from benchmarks import arguments
from benchmarks.partitioned import Partitioned
from benchmarks.verdict import MARGIN, all_runs, compared
from benchmarks.verdict_cases import Case, cases, cheaper, partitions

WORTH = 0.03
GOAL = 0.05
CLASSES = 7
Study = tuple[Sequence[Estimate], np.ndarray]
"""A simulated study: (differences of all pairs in order, true scores [L])."""


def simulated(case: Case, studies: int) -> Iterator[Study]:
    """Yield studies with one split."""
    for study in range(studies):
        runs = all_runs(case.world.draw(study, case.searches, case.seeds), np.random.default_rng((5, study)))
        yield compared(runs), case.world.scores(study)


def cross_fitted(world: Partitioned, studies: int) -> Iterator[Study]:
    """Yield studies with five outer folds, two strategies each."""
    for study in world.draw(studies):
        outer = OuterFolds(labels=study.labels, fold=study.folds[5], classes=CLASSES, groups=study.groups)
        a, b = (cross_fit(p, outer) for p in study.predicted[5, 1])
        yield [folds_difference(a, b)], np.array([world.truth(), 0.0])


def measure(found: Iterator[Study]) -> dict[str, float]:
    """Return shares of studies, and `bound` in points."""
    tally = defaultdict(list)
    for pairs, scores in found:
        names = [str(k) for k in range(len(scores))]
        minus = {}
        for (a, b), e in zip(combinations(names, 2), pairs, strict=True):
            minus[a, b], minus[b, a] = e, turned(e)
        lost = scores.max() - scores
        bounds = np.array([loss_bound([minus[o, s] for o in names if o != s], ALPHA / (len(names) - 1)) for s in names])
        tally["too_low"].append(bool((bounds < lost - 1e-9).any()))
        tally["bound"].append(100 * float(bounds[-1]))
        tally["said"].append(bool(bounds[-1] <= WORTH))
        tally["false"].append(bool(((bounds <= WORTH) & (lost > WORTH)).any()))
        decided = dict(zip(combinations(names, 2), decide(pairs, MARGIN), strict=True))
        standing = not_separated_from_best(names, decided)
        cheapest = standing[-1]
        mean = max((expected_loss(minus[o, cheapest]) for o in standing if o != cheapest), default=1.0)
        tally["mean_said"].append(mean <= MARGIN)
        tally["mean_false"].append(mean <= MARGIN and lost[int(cheapest)] > MARGIN + 1e-9)
    return {name: float(np.median(v) if name == "bound" else np.mean(v)) for name, v in tally.items()}


def worlds(studies: int) -> Iterator[tuple[str, Iterator[Study]]]:
    for case in (*cheaper(), *(c for c in cases() if c.told_apart and c.looks == 1)):
        yield case.name, simulated(case, studies)
    for name, world in partitions():
        if (5, 1) in world.designs:
            yield f"5 folds, {world.law.images} images, {name}", cross_fitted(world, studies)


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--studies", type=int, default=200, help="a world; a rate of 5 %% has a standard error of 22 / sqrt points")
    parser.add_argument("--only", default="", help="worlds whose name contains this")
    args = parser.parse_args()
    heads = ("too low", "median U", "said", "falsely", "by the mean", "falsely")
    print(f"{'world':64s}" + "".join(f"{h:>13s}" for h in heads))
    rows: dict[str, Any] = {}
    for name, found in worlds(args.studies):
        if args.only not in name:
            continue
        row = rows[name] = measure(found)
        shown = [f"{v:.1f}" if k == "bound" else f"{v:.3f}" for k, v in row.items()]
        over = row["too_low"] > GOAL + 2 * (GOAL * (1 - GOAL) / args.studies) ** 0.5
        print(f"{name:64s}" + "".join(f"{v:>13s}" for v in shown) + ("   too low" if over else ""), flush=True)
    if args.json:
        print(json.dumps({"studies": args.studies, "worth": 100 * WORTH, "worlds": rows}))


if __name__ == "__main__":
    main()
