"""Does the verdict keep its word? Simulated studies whose truth is known (benchmarks/worlds.py), judged by analysis.

    python -m benchmarks.verdict [--studies 200] [--only NAME] [--metric NAME ...] [--json]

The first table shows by world in how many studies something false is claimed of any pair, how often the 95 % interval holds the truth,
how often a true winner is named, the width of the interval (points), and how often the amount that a forecast asked for then decided.
Beside each figure stands the former protocol (benchmarks/verdict_before.py), in the same world with the same number of confirm runs.

The second table compares the rule that bars a verdict with the former rule (benchmarks/verdict_rules.py). It shows false claims, pairs
not comparable for any reason, and the share of collapsed runs that are found. Of the pairs without a collapsed run it shows those with
a run that counts as collapsed all the same, and those barred by it (below ten runs).
With --metric the default worlds of one split are judged by other metrics. The truth is then that of many runs on many images, and there
is no former protocol.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from analysis.statistics.decisions import ALPHA, Decision, decide
from analysis.statistics.forecast import alpha_of_look, forecast
from analysis.statistics.intervals import Estimate, difference, difference_interval, mean_estimate, share_interval
from analysis.statistics.resampling import ImageUnits, image_units
from analysis.statistics.scored_runs import Runs, join_folds, score_runs
from benchmarks import arguments
from benchmarks.verdict_before import OldPair, old_pairs, old_seeds_needed, old_verdicts
from benchmarks.verdict_cases import Case, cases, measured_by
from benchmarks.verdict_rules import rule_before, rules_now
from benchmarks.worlds import Latent, Sample, Split, World
from study.scoring.metric import DEFAULT, Metric

RESAMPLES = 150
MARGIN = 0.01
MOST_FOLLOWED = 4000  # images: larger forecasts are not followed up
GOAL_FALSE, GOAL_COVERAGE, GOAL_FORECAST = 0.05, (0.93, 0.98), (0.70, 0.90)
GOAL_BARRED = 0.06  # pairs that a collapse bars though no run collapsed
COLUMNS = ("false_claims", "coverage", "power", "width", "forecast_decided")
RULED = ("false_claims", "mistaken", "barred", "not_comparable", "found")
Tally = defaultdict[str, list[float]]  # by figure, one number a study


# ---- from samples to runs -------------------------------------------------------------------------------


def resample(split: Split, rng: np.random.Generator) -> np.ndarray:
    """Return weights [B, N], distributed as those of statistics.image_weights but drawn faster."""
    member = np.arange(len(split.labels)) if split.groups is None else split.groups
    units = int(member.max()) + 1
    drawn = rng.integers(0, units, (RESAMPLES, units)) + units * np.arange(RESAMPLES)[:, None]
    weights: np.ndarray = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)[:, member].astype(np.float32)
    return weights


def all_runs(sample: Sample, rng: np.random.Generator, metric: Metric = DEFAULT) -> list[Runs]:
    """Return the scored runs of each strategy."""
    by_fold = []
    for split in sample.splits:
        weights, units = resample(split, rng), image_units(len(split.labels), split.groups)
        shares: list[Any] = [()] * len(split.predicted) if split.shares is None else [list(q) for q in split.shares]
        by_fold.append(
            [
                score_runs(p, sample.search, split.labels, split.classes, weights, units, ["macro_f1"], metric, q)[metric.key]
                for p, q in zip(split.predicted, shares, strict=True)
            ]
        )
    return [join_folds(own) for own in zip(*by_fold, strict=True)]


def compared(runs: Sequence[Runs]) -> list[Estimate]:
    """Return the differences of all pairs."""
    return [difference(a, b) for a, b in combinations(runs, 2)]


def true_differences(world: World, study: int) -> list[float]:
    scores = world.scores(study)
    return [float(scores[i] - scores[j]) if abs(scores[i] - scores[j]) > 1e-9 else 0.0 for i, j in combinations(range(len(scores)), 2)]


# ---- one study ------------------------------------------------------------------------------------------


def judge(case: Case, study: int, tally: Tally) -> None:
    """Judge one study under the present protocol."""
    sample, searched = case.world.draw(study, case.searches, case.seeds), case.world.searched(study, case.searches, case.seeds)
    metric = metric_of(case)
    runs = all_runs(sample, np.random.default_rng((5, study)), metric)
    bounds = [share_interval(mean_estimate(r)) for r in runs]
    tally["coverage_of_scores"].append(_share(lo <= t <= hi for (lo, hi), t in zip(bounds, case.world.scores(study), strict=True)))
    pairs, truths = compared(runs), true_differences(case.world, study)
    now, once = rules_now(runs, searched.over_search, sample.splits, metric), rule_before(runs)
    claims, before = (decide(pairs, MARGIN * metric.margin, ruled.doubts) for ruled in (now, once))
    record(tally, pairs, claims, truths)
    tally["false_claims_before"].append(_any_wrong(before, truths))
    tally["not_comparable_before"].append(_share(c.kind == "not_comparable" for c in before))
    for name, ruled in (("", now), ("_before", once)) if searched.lost is not None else ():
        tally[f"mistaken{name}"] += ruled.mistaken(searched.lost)
        tally[f"barred{name}"] += ruled.barred(searched.lost)
        tally[f"found{name}"] += ruled.found(searched.lost)
    if case.follow and claims[0].kind == "undecided":
        follow(case, study, runs[0].units, pairs[0], tally)


def metric_of(case: Case) -> Metric:
    """Return the metric by which the case's world is judged."""
    return case.world.metric if isinstance(case.world, Latent) else DEFAULT


def record(tally: Tally, pairs: Sequence[Estimate], claims: Sequence[Decision], truths: Sequence[float]) -> None:
    bounds = [difference_interval(e) for e in pairs]
    tally["false_claims"].append(_any_wrong(claims, truths))
    tally["coverage"].append(_share(lo <= t <= hi for (lo, hi), t in zip(bounds, truths, strict=True)))
    tally["joint_coverage"].append(all(c.low <= t <= c.high for c, t in zip(claims, truths, strict=True)))
    tally["width"].append(100 * float(np.mean([hi - lo for lo, hi in bounds])))
    tally["said_equivalent"].append(_share(c.kind == "equivalent" for c in claims))
    tally["not_comparable"].append(_share(c.kind == "not_comparable" for c in claims))
    inside = [-MARGIN < lo and hi < MARGIN for lo, hi in bounds]
    tally["beats_inside_margin"].append(any(c.kind == "beats" and i for c, i in zip(claims, inside, strict=True)))
    if any(truths):
        tally["power"].append(_share(c.winner == ("a" if t > 0 else "b") for c, t in zip(claims, truths, strict=True) if t))


def _any_wrong(claims: Sequence[Decision], truths: Sequence[float]) -> bool:
    return any(wrong(c.kind, c.winner, t) for c, t in zip(claims, truths, strict=True))


def wrong(kind: str, winner: str | None, truth: float) -> bool:
    """Return True where the claim about the pair is false."""
    if winner and truth * (1 if winner == "a" else -1) <= 0:
        return True
    return (kind == "beats" and abs(truth) < MARGIN) or (kind in ("better_by_little", "equivalent") and abs(truth) >= MARGIN)


def follow(case: Case, study: int, units: ImageUnits, pair: Estimate, tally: Tally) -> None:
    """Do what was forecast and judge again at the next look's level.

    The same study gets as many more searches or seeds, and as many more images.
    """
    level = alpha_of_look(2)
    more, images = forecast(pair, MARGIN, level)[:2]
    tally["forecast_none"].append(more.more is None and images.more is None)
    larger: list[tuple[int, int, int | None]] = []
    if more.more is not None:
        larger.append((case.searches + more.more, case.seeds, None) if case.searches > 1 else (1, case.seeds + more.more, None))
    if images.more is not None and units.images + images.more <= MOST_FOLLOWED:
        larger.append((case.searches, case.seeds, units.images + images.more))
    for searches, seeds, size in larger:
        again = all_runs(case.world.draw(study, searches, seeds, size), np.random.default_rng((6, study)))
        tally["forecast_decided"].append(decide([difference(*again)], MARGIN, alpha=level)[0].kind != "undecided")


def judge_before(case: Case, study: int, tally: Tally) -> None:
    """Judge the same number of confirm runs under the former protocol."""
    seeds = case.searches * case.seeds
    pairs, truths = drawn_before(case, study, seeds), true_differences(case.before or case.world, study)
    kinds = old_verdicts(pairs, MARGIN)
    winners = [k if k in "ab" else None for k in kinds]
    tally["false_claims"].append(any(wrong(k, w, t) for k, w, t in zip(kinds, winners, truths, strict=True)))
    tally["coverage"].append(_share(abs(p.mean - t) <= p.half() for p, t in zip(pairs, truths, strict=True)))
    tally["width"].append(200 * float(np.mean([p.half() for p in pairs])))
    tally["said_equivalent"].append(_share(k == "equivalent" for k in kinds))
    tally["beats_inside_margin"].append(any(w and abs(p.mean) + p.half() < MARGIN for w, p in zip(winners, pairs, strict=True)))
    if any(truths):
        tally["power"].append(_share(w == ("a" if t > 0 else "b") for w, t in zip(winners, truths, strict=True) if t))
    if case.follow and kinds[0] == "undecided":
        more = old_seeds_needed(pairs[0], seeds, MARGIN)
        tally["forecast_none"].append(more is None)
        if more is not None:
            tally["forecast_decided"].append(old_verdicts(drawn_before(case, study, seeds + more), MARGIN)[0] != "undecided")


def drawn_before(case: Case, study: int, seeds: int) -> list[OldPair]:
    """Return the pairs of the former protocol. Folds of a seed are put end to end, as if they shared a training set."""
    folds, rng = (case.before or case.world).draw(study, 1, seeds).splits, np.random.default_rng((5, study))
    whole = Split(
        predicted=[np.concatenate(own, axis=1) for own in zip(*(f.predicted for f in folds), strict=True)],
        labels=np.concatenate([f.labels for f in folds]),
        groups=folds[0].groups,
        classes=folds[0].classes,
    )
    runs = all_runs(Sample(search=np.zeros(seeds, int), splits=[whole]), rng)
    return old_pairs([(r.scores, r.resampled) for r in runs], runs[0].units.groups)


def peek(case: Case, study: int, level: Callable[[int], float], before: bool) -> bool:
    """Look again while nothing is decided, each time with as many more seeds as at first. Return True where any look names a winner."""
    for look in range(1, case.looks + 1):
        if before:
            kind = old_verdicts(drawn_before(case, study, case.seeds * look), MARGIN)[0]
        else:
            pairs = compared(all_runs(case.world.draw(study, 1, case.seeds * look), np.random.default_rng((5, study))))
            kind = decide(pairs, MARGIN, alpha=level(look))[0].kind
        if kind != "undecided":
            return kind != "equivalent"
    return False


def _share(values: Any) -> float:
    return float(np.mean(list(values)))


# ---- all studies ----------------------------------------------------------------------------------------


def rates(tally: Tally) -> dict[str, float]:
    """Return means with their standard errors, those of a rate never below that of one study in all."""
    out: dict[str, float] = {}
    for name, values in tally.items():
        n = len(values)
        if not n:
            continue
        out[name] = round(float(np.mean(values)), 4)
        out[f"{name}_se"] = round(max(float(np.std(values)), 1 / math.sqrt(n + 2)) / math.sqrt(n), 4)
    return out


def measure(case: Case, studies: int) -> dict[str, Any]:
    now, before = Tally(list), Tally(list)
    for study in range(studies):
        if case.looks > 1:
            now["false_claims"].append(peek(case, study, alpha_of_look, before=False))
            now["false_claims_unspent"].append(peek(case, study, lambda look: ALPHA, before=False))
            before["false_claims"].append(peek(case, study, lambda look: ALPHA, before=True))
        else:
            judge(case, study, now)
            if metric_of(case) == DEFAULT:
                judge_before(case, study, before)
    return {**rates(now), "old": rates(before)}


def misses(row: dict[str, Any], wide: bool) -> list[str]:
    """Return the bars missed by more than two standard errors. With `wide`, too wide an interval is no miss."""

    def outside(name: str, least: float, most: float) -> bool:
        return name in row and not least - 2 * row[f"{name}_se"] <= row[name] <= most + 2 * row[f"{name}_se"]

    bars = {
        "false_claims": (0.0, GOAL_FALSE),
        "coverage": (GOAL_COVERAGE[0], 1.0 if wide else GOAL_COVERAGE[1]),
        "barred": (0.0, GOAL_BARRED),
        "forecast_decided": GOAL_FORECAST,
    }
    inside = row.get("beats_inside_margin", 0) > 0
    return [name for name, goal in bars.items() if outside(name, *goal)] + ["beats_inside_margin"] * inside


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    studies = "simulated studies a world; a rate's standard error is about 1 / (2 sqrt)"
    parser.add_argument("--studies", type=int, default=200, help=studies)
    parser.add_argument("--only", default="", help="worlds whose name contains this")
    parser.add_argument("--metric", nargs="+", default=[], help="the default worlds by other metrics, as --metric of a study has them")
    args = parser.parse_args()
    chosen = [c for m in args.metric for c in measured_by(m)] if args.metric else [*cases()]
    found = table([c for c in chosen if args.only in c.name], args.studies)
    if args.json:
        print(json.dumps({"studies": args.studies, "worlds": found, "met": not any(row["missed"] for row in found.values())}))


def table(chosen: Iterable[Case], studies: int) -> dict[str, Any]:
    """Print one line per world with the bars it missed, and return the measured rates by world."""
    found: dict[str, Any] = {}
    print(f"{'world':52s}" + "".join(f"{h.replace('_', ' '):>18s}" for h in COLUMNS) + "   new | old")
    for case in chosen:
        row = measure(case, studies)
        row["missed"] = misses(row, case.wide) if case.told_apart else []
        found[case.name] = row
        cells = [f"{_show(row.get(k))} | {_show(row['old'].get(k))}" for k in COLUMNS]
        note = ", ".join(row["missed"]) if case.told_apart else "cannot be held"
        print(f"{case.name:52s}" + "".join(f"{c:>18s}" for c in cells) + "   " + note, flush=True)
    missed = "; ".join(f"{k} ({', '.join(r['missed'])})" for k, r in found.items() if r["missed"])
    print(f"bars missed: {missed}" if missed else "all bars held")
    _ruled(found)
    return found


def _ruled(found: dict[str, Any]) -> None:
    """Print the second table."""
    print(f"\n{'world':52s}" + "".join(f"{h.replace('_', ' '):>18s}" for h in RULED) + "   rules now | rule before")
    for name, row in found.items():
        cells = [f"{_show(row.get(k))} | {_show(row.get(f'{k}_before'))}" for k in RULED]
        print(f"{name:52s}" + "".join(f"{c:>18s}" for c in cells))


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value < 1.5 else f"{value:.1f}"


if __name__ == "__main__":
    main()
