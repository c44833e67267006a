"""Coverage of the estimator for cross-fitted studies, and its gain over one split: python -m benchmarks.folds [--json]

Studies of two strategies on N images are simulated (benchmarks/partitioned.py), cut into K folds with m searches each. The table shows
by world and design:

- how often a winner is named although there is none,
- how often the 95 % interval holds the truth: of training on images of this kind, and of training on these images, where the networks'
  training images have something in common,
- the width of the interval and the root mean square error of the difference (points),
- how often the true winner is named.

Beside it stands one split into 60 / 20 / 20 % with K m searches, on the same images and with as many networks. Then follow other
intervals on the folds' predictions: images alone (Bayle et al. 2020), Student's t over folds, and the same with Nadeau and Bengio's
(2003) correction. The last column is the correlation over studies of two folds' accuracies, and of their differences between the
strategies.
"""

import json
import math
from collections import defaultdict
from typing import Any

import numpy as np
from scipy import special

from analysis.statistics.cross_fitting import CrossFitted, OuterFolds, cross_fit, difference, variance_of_sum
from analysis.statistics.resampling import image_units
from benchmarks import arguments
from benchmarks.partitioned import Partition, Partitioned
from benchmarks.verdict_cases import partitions

GOAL_FALSE, GOAL_COVERAGE = 0.05, (0.93, 0.98)
METHODS = ("folds", "one_split", "images_alone", "t_over_folds", "nadeau_bengio")
HELD_BACK = 0.25  # of the images outside a fold: for validation
CLASSES = 7


def judged(study: Partition, folds: int, passes: int) -> dict[str, tuple[float, float, float]]:
    """Return by method (difference, half width of its 95 % interval, part of the truth that is due to these training images)."""
    outer = OuterFolds(labels=study.labels, fold=study.folds[folds], classes=CLASSES, groups=study.groups)
    a, b = (cross_fit(p, outer) for p in study.predicted[folds, passes])
    ours = difference(a, b)
    test = study.folds[5] == 0
    split = OuterFolds(
        labels=study.labels[test],
        fold=np.zeros(int(test.sum())),
        classes=CLASSES,
        groups=None if study.groups is None else study.groups[test],
    )
    one = difference(*(cross_fit(p[:, test], split) for p in study.single[folds * passes]))
    alone, df_alone, spread = usual(a, b)
    train = (1 - HELD_BACK) * (1 - 1 / folds)
    halves = {
        "folds": ours.half_width(),
        "images_alone": special.stdtrit(df_alone, 0.975) * math.sqrt(alone),
        "t_over_folds": special.stdtrit(folds - 1, 0.975) * math.sqrt(spread),
        "nadeau_bengio": special.stdtrit(folds - 1, 0.975) * math.sqrt(spread * (1 + 1 / train)),
    }
    found = {name: (ours.mean, half, study.here) for name, half in halves.items()}
    return {**found, "one_split": (one.mean, one.half_width(), study.here_single[folds * passes])}


def usual(a: CrossFitted, b: CrossFitted) -> tuple[float, float, float]:
    """Return for the difference (variance through images, its degrees of freedom, variance between folds)."""
    d, folds = (a.influence - b.influence).mean(axis=0), a.folds
    units = image_units(len(folds.labels), folds.groups)
    between = variance_of_sum((a.by_fold - b.by_fold).mean(axis=0), folds.fold_sizes, np.zeros(len(folds.fold_sizes), int))[0]
    return float((d**2).sum()) * units.correction, units.effective - 1, between


def accuracies(study: Partition, folds: int, passes: int) -> np.ndarray:
    """Return [2, K] the accuracy of each strategy by fold, over its passes."""
    right = (study.predicted[folds, passes] == study.labels).mean(axis=1)
    place = study.folds[folds]
    return np.stack([np.bincount(place, r, folds) / np.bincount(place, minlength=folds) for r in right])


def correlation(values: np.ndarray) -> float:
    """Return the mean over pairs of folds of the correlation over studies, from values [S, K]."""
    found = np.corrcoef(values.T)
    return float(found[~np.eye(len(found), dtype=bool)].mean())


def measure(world: Partitioned, studies: int) -> list[dict[str, Any]]:
    """Return one row per design."""
    truth = world.truth()
    found: dict[tuple[int, int], dict[str, list[tuple[float, float, float]]]] = {d: defaultdict(list) for d in world.designs}
    by_fold: dict[tuple[int, int], list[np.ndarray]] = {d: [] for d in world.designs}
    for study in world.draw(studies):
        for design in world.designs:
            by_fold[design].append(accuracies(study, *design))
            for method, numbers in judged(study, *design).items():
                found[design][method].append(numbers)
    out = []
    for (folds, passes), own in found.items():
        acc = np.stack(by_fold[folds, passes])
        row: dict[str, Any] = {"K": folds, "m": passes, "images": world.law.images, "truth": truth}
        row["correlation"] = round(float(np.mean([correlation(acc[:, s]) for s in (0, 1)])), 3)
        row["correlation_of_differences"] = round(correlation(acc[:, 0] - acc[:, 1]), 3)
        for method in METHODS:
            row[method] = rates(np.array(own[method]), truth)
        out.append(row)
    return out


def rates(found: np.ndarray, truth: float) -> dict[str, float]:
    """Return the rates from [S, 3]: difference, half width, and effect of the training images. A study without an interval names nobody.

    `wrong` is the rate of naming a winner that is none, `here` that of covering the truth of training on these images. `width` (median)
    and `error` are in points.
    """
    mean, half, here = found.T
    half = np.where(np.isnan(half), np.inf, half)
    named, right = np.abs(mean) > half, np.sign(mean) == np.sign(truth)
    return {
        "wrong": round(float((named & ~right).mean()), 4),
        "covers": round(float((np.abs(mean - truth) <= half).mean()), 4),
        "here": round(float((np.abs(mean - truth - here) <= half).mean()), 4),
        "width": round(200 * float(np.median(half)), 1),
        "error": round(100 * float(np.sqrt(((mean - truth) ** 2).mean())), 2),
        **({"power": round(float((named & right).mean()), 4)} if truth else {}),
    }


def missed(row: dict[str, Any], studies: int) -> list[str]:
    """Return the bars of the estimator that are missed by more than two standard errors."""
    own = row["folds"]

    def by(bar: float) -> float:
        return bar + 2 * math.sqrt(bar * (1 - bar) / studies)

    misses = {
        "wrong": own["wrong"] > by(GOAL_FALSE),
        "covers": 1 - own["covers"] > by(1 - GOAL_COVERAGE[0]),
        "wide": own["covers"] > by(GOAL_COVERAGE[1]),
    }
    return [name for name, miss in misses.items() if miss]


def line(name: str, row: dict[str, Any], studies: int) -> str:
    """Return one design in one world as it is printed."""

    def percent(method: str, *what: str) -> str:
        return " ".join(f"{100 * row[method][w]:5.1f}" if w in row[method] else "    -" for w in what)

    full = "   ".join(
        f"{percent(m, 'wrong', 'covers', 'here')} {row[m]['width']:5.1f} {row[m]['error']:5.2f} {percent(m, 'power')}" for m in METHODS[:2]
    )
    short = "   ".join(f"{percent(m, 'wrong')} {row[m]['width']:5.1f}" for m in METHODS[2:])
    alike = f"{row['correlation']:+.2f} {row['correlation_of_differences']:+.2f}"
    return f"{name:36s} {row['images']:4d} {row['K']:>2d} x {row['m']}   {full}   {short}   {alike}   {', '.join(missed(row, studies))}"


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--studies", type=int, default=2000, help="a world; a rate of 5 %% has a standard error of 22 / sqrt points")
    parser.add_argument("--only", default="", help="worlds whose name contains this")
    args = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    heads = [f"{m.replace('_', ' '):35s}" for m in METHODS[:2]] + [f"{m.replace('_', ' '):13s}"[:13] for m in METHODS[2:]]
    heads.append("correlation")
    print(" " * 50 + "".join(heads))
    print(
        f"{'world':36s} {'N':>4s} {'K x m':>6s}   "
        + "wrong covers here width error power   " * 2
        + "wrong width   " * 3
        + "of scores, of differences"
    )
    for name, world in partitions():
        if args.only in name:
            found[f"{name}, {world.law.images} images"] = rows = measure(world, args.studies)
            for row in rows:
                print(line(name, row, args.studies), flush=True)
    if args.json:
        print(
            json.dumps(
                {"studies": args.studies, "worlds": found, "met": not any(missed(r, args.studies) for own in found.values() for r in own)}
            )
        )


if __name__ == "__main__":
    main()
