"""Tables made from predictions: the confirm runs of a question gathered, every strategy scored, every pair compared."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.frames import Frames
from analysis.data.predictions import Predictions, measured_path, refusal
from analysis.data.question import Question
from analysis.findings.small_classes import small_classes
from analysis.statistics import cross_fitting
from analysis.statistics import resampling as st
from analysis.statistics.collapse import Collapse, collapse_reason, count_collapses
from analysis.statistics.cross_fitting import CrossFitted, OuterFolds, cross_fit, cross_fit_asked
from analysis.statistics.intervals import Estimate, difference, difference_interval, images_estimate, mean_estimate, share_interval
from analysis.statistics.own_search import over_search
from analysis.statistics.scored_runs import Runs, join_folds, score_runs
from study.errors import DataError
from study.question.folds import in_common
from study.scoring.metric import DEFAULT, Metric, Said
from study.strategies import EVERY

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampled:
    """Bootstrap draws of the test images of one fold: drawn again with replacement."""

    images: np.ndarray  # [n] their places among the question's images
    groups: np.ndarray | None  # [n]
    weights: np.ndarray  # [B, n] how often each is drawn


@dataclass(kw_only=True, eq=False)
class Gathered:
    """The confirm runs of a question on the images that they share. Folds hold different images and are put end to end."""

    question: Question
    images: np.ndarray  # [N] their names
    labels: np.ndarray  # [N]; bool [N, C] where an image may have several
    groups: np.ndarray | None  # [N]
    fold: np.ndarray  # [N] of 0, 1, ...: which split's test set the image is in
    searches: dict[int, int]  # by seed: which search's winner its runs trained
    classes: Sequence[str] = ()  # their names
    nested: bool = False  # outer folds, each with searches of its own: instead of seeds, passes over all images, from 0
    over_search: Mapping[str, Mapping[Any, float]] = field(
        default_factory=dict
    )  # strategy -> seed, or of nested folds trial -> validation beside its search's
    predicted: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)  # strategy -> seed -> classes [N]
    truth: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)  # strategy -> seed -> probability of the true class [N]
    trials: dict[str, dict[int, list[str]]] = field(default_factory=dict)  # strategy -> seed -> its trial on every fold
    metric: Metric = DEFAULT  # bound to the classes
    probabilities: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)  # strategy -> seed -> [N, C], where needed

    @property
    def several(self) -> bool:
        """Return whether an image may have several labels: then labels and predictions are bool [N, C]."""
        return self.labels.ndim == 2

    @property
    def num_classes(self) -> int:
        if self.several:
            return self.labels.shape[1]
        return max(int(self.labels.max()) + 1, *(int(p.max()) + 1 for runs in self.predicted.values() for p in runs.values()))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the metrics that have a table: the study's, and those of every study."""
        own = (m for m in st.METRICS if m != "accuracy" or not self.several)  # counts by label do not say how many images are right
        return tuple(dict.fromkeys((self.metric.key, *own)))

    def resample(self, resamples: int) -> Iterator[Resampled]:
        """Yield the bootstrap draws fold by fold.

        Every strategy, metric and class gets the same draws, so that all of them can be paired.
        """
        for fold in range(int(self.fold.max()) + 1):
            here = np.flatnonzero(self.fold == fold)
            groups = None if self.groups is None else self.groups[here]
            yield Resampled(images=here, groups=groups, weights=st.shared_weights(len(here), groups, resamples))


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two strategies of a question on the study's metric, A minus B, before anything is decided."""

    question: Question
    a: str
    b: str
    estimate: Estimate
    seeds: int  # runs of the strategy that has fewer
    collapses: tuple[str, ...]  # why collapsed runs forbid to name a winner
    small_classes: str = ""  # why no verdict rests on these test images; empty: one may


@dataclass(kw_only=True, eq=False)
class Tables:
    """Rows under the names that `Findings` uses, and the pairs to be decided on."""

    seeds: Rows = field(default_factory=list)
    runs: Rows = field(default_factory=list)
    strategies: Rows = field(default_factory=list)
    pairs: list[Compared] = field(default_factory=list)  # on the study's metric
    secondary: Rows = field(default_factory=list)


def compare_all(questions: Iterable[Gathered], resamples: int) -> Tables:
    """Return the tables of the questions that `gather_all` found."""
    tables = Tables()
    for gathered in questions:
        compare_strategies(gathered, resamples, tables)
    return tables


def gather_all(frames: Frames) -> Iterator[Gathered]:
    """Yield every question that has confirm runs with predictions on test."""
    done = frames.confirmed()
    for question, block in done.assign(question=frames.questions(done)).groupby("question", sort=False) if len(done) else ():
        if (gathered := gather(frames, question, block)) is not None:
            yield gathered


@dataclass(frozen=True, kw_only=True, eq=False)
class WholeRun:
    """A confirm run with predictions of every fold."""

    strategy: str
    seed: int
    trials: list[str]  # by fold
    tests: list[Predictions]  # by fold


def gather(frames: Frames, question: Question, block: pd.DataFrame) -> Gathered | None:
    """Return the confirm runs of a question, or None where no run has predictions of every fold.

    Raises EnvironmentProblem for a run on other images than the rest, and DataError for folds that share test images.
    """
    runs = [*_whole_runs(frames, block)]
    if not runs:
        return None
    _refuse_strangers(frames, question, runs)
    _refuse_repeats(question, runs[0])
    runs = _alike(runs)
    first, names = runs[0].tests, frames.classes.get(str(block["cell"].iloc[0]), ())
    metric = frames.scored_by.bind(names or [str(k) for k in range(first[0].logits.shape[1])])
    metric.check(np.concatenate([p.labels for p in first]))
    found = Gathered(
        question=question,
        images=np.concatenate([p.images for p in first]),
        labels=np.concatenate([p.labels for p in first]),
        groups=_groups(first),
        fold=_folds(first),
        searches=_searches_of(frames, block),
        nested=frames.study.folds > 1,
        classes=names,
        metric=metric,
        over_search=_over_search_by_trial(frames, block) if frames.study.folds > 1 else over_search(frames, block),
    )
    for run in runs:
        said = [p.said(metric, _temperature(frames, t, metric)) for t, p in zip(run.trials, run.tests, strict=True)]
        found.predicted.setdefault(run.strategy, {})[run.seed] = np.concatenate([s.named for s in said])
        if metric.probable:
            found.probabilities.setdefault(run.strategy, {})[run.seed] = np.concatenate([s.probabilities for s in said])
        found.truth.setdefault(run.strategy, {})[run.seed] = np.concatenate([p.truth for p in run.tests])
        found.trials.setdefault(run.strategy, {})[run.seed] = run.trials
    return found


def _temperature(frames: Frames, trial_id: str, metric: Metric) -> float:
    """Return the temperature of a run's validation images, or 1 where none are kept or the metric needs none."""
    val = frames.predictions(trial_id).get("val") if metric.calibrated else None
    return 1.0 if val is None else metric.temperature(val.logits, val.labels)


def _alike(runs: Sequence[WholeRun]) -> list[WholeRun]:
    """Repeat a single run of an exact strategy beside every seed of the others.

    An exact strategy is solved, not trained, so every seed would give the same network. Its copies do not vary, just as its runs would
    not.
    """
    once = [r for r in runs if EVERY[r.strategy].exact and sum(r.strategy == o.strategy for o in runs) == 1]
    others = [r for r in runs if r not in once]
    return [*others, *(replace(r, seed=seed) for r in once for seed in dict.fromkeys(o.seed for o in others) or [r.seed])]


def _whole_runs(frames: Frames, block: pd.DataFrame) -> Iterator[WholeRun]:
    """Yield the confirm runs that are complete. `analysis.data.missing` names the others.

    With K outer folds, the runs K j to K j + K - 1 are one pass over all images and are yielded as one run.
    """
    study = frames.study
    by = block.assign(seed=block["number"] // study.folds) if study.folds > 1 else block
    for strategy, own in by.groupby("strategy", sort=False):
        for seed, folds in own.sort_values(["seed", "splits"]).groupby("seed", sort=False):
            trials = [str(t) for t in folds["trial_id"]]
            tests = [p for t in trials if (p := frames.predictions(t).get("test")) is not None]
            if len(tests) == len(folds) >= study.folds:
                yield WholeRun(strategy=str(strategy), seed=int(seed), trials=trials, tests=tests)


def _refuse_strangers(frames: Frames, question: Question, runs: Sequence[WholeRun]) -> None:
    """Raise EnvironmentProblem for a run on other images than the rest. The error names the file that differs.

    Such runs cannot be paired, and leaving one out silently would change the verdict.
    """
    kinds: list[list[WholeRun]] = []
    for run in runs:
        same = [k for k in kinds if len(k[0].tests) == len(run.tests) and not any(map(Predictions.differs, k[0].tests, run.tests))]
        if same:
            same[0].append(run)
        else:
            kinds.append([run])
    if len(kinds) == 1:
        return
    usual, odd = max(kinds, key=len)[0], min(kinds[::-1], key=len)[0]
    if len(odd.tests) != len(usual.tests):
        raise refusal(
            frames.ledger, odd.trials[0], "predictions", f"belongs to a run of {len(odd.tests)} folds, others have {len(usual.tests)}"
        )
    fold, what = next((k, d) for k, pair in enumerate(zip(odd.tests, usual.tests, strict=True)) if (d := Predictions.differs(*pair)))
    there = measured_path(frames.ledger, usual.trials[fold], "predictions")
    reason = f"holds other {what} of test than {there}, of the same question ({question.name})"
    raise refusal(frames.ledger, odd.trials[fold], "predictions", reason)


def _refuse_repeats(question: Question, run: WholeRun) -> None:
    """Raise DataError for folds that share test images, whichever protocol the study was begun with.

    They are no repeats of each other: one training would be counted several times.
    """
    if (twice := in_common([p.images.tolist() for p in run.tests])) is not None:
        raise DataError(
            f"{question.name}: folds {twice[0]} and {twice[1]} are both tested on {twice[2]} images, so they are no repeats of "
            "each other and no verdict can rest on them. Ask anew under another --name."
        )


def _searches_of(frames: Frames, block: pd.DataFrame) -> dict[int, int]:
    """Return by seed the search whose winner its runs trained.

    The k-th of R searches has the confirm runs k, k + R, and so on, each on every fold. With nested folds each pass has searches of its
    own.
    """
    if frames.study.folds > 1:
        return {int(number) // frames.study.folds: int(number) // frames.study.folds for number in block["number"]}
    return {int(seed): frames.study.search_of(int(number)) for seed, number in zip(block["seed"], block["number"], strict=True)}


def _folds(parts: list[Predictions]) -> np.ndarray:
    return np.repeat(np.arange(len(parts)), [len(p.labels) for p in parts])


def _groups(parts: list[Predictions]) -> np.ndarray | None:
    known = [p.groups for p in parts if p.groups is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def compare_strategies(gathered: Gathered, resamples: int, tables: Tables) -> None:
    """Score and compare the strategies of a question, and add the rows to `tables`."""
    folds = {s: runs_by_fold(gathered, s, resamples) for s in gathered.predicted}
    tables.runs += [row for strategy, parts in folds.items() for row in _run_rows(gathered, strategy, parts)]
    runs = {s: _joined(parts) for s, parts in folds.items()}
    sides = {s: _sides(gathered, s, own) for s, own in runs.items()}
    metric = gathered.metric
    main = {s: own[metric.key] for s, own in runs.items()}
    scores = [own.scores if gathered.nested else _by_seed(gathered, s, own) for s, own in main.items()]
    beside, searches = [_over_search(gathered, s) for s in main], len(set(gathered.searches.values()))
    searches = max(map(len, scores)) if gathered.nested else searches  # every run of nested folds is of a search of its own
    collapses = dict(zip(main, count_collapses(scores, beside, searches, metric.margin / 100), strict=True))
    small = small_classes(gathered.labels, gathered.classes, metric.words) if metric.by_class else ""
    for name in gathered.metrics:
        for strategy, own in runs.items():
            tables.strategies.append(_strategy_row(gathered, strategy, name, own[name], sides[strategy][name], collapses[strategy]))
            tables.seeds += _seed_rows(gathered, strategy, name, _by_seed(gathered, strategy, sides[strategy][name]))
    for a, b in combinations([s for s in runs if not EVERY[s].yardstick], 2):
        tables.secondary += [
            _secondary_row(gathered, a, b, m, difference_of(sides[a][m], sides[b][m])) for m in gathered.metrics if m != metric.key
        ]
        tables.pairs.append(
            Compared(
                question=gathered.question,
                a=a,
                b=b,
                estimate=difference_of(sides[a][metric.key], sides[b][metric.key]),
                seeds=min(len(runs[s][metric.key].scores) if gathered.nested else len(gathered.predicted[s]) for s in (a, b)),
                collapses=tuple(f"of {s}, {why}" for s in (a, b) if (why := collapse_reason(collapses[s], collapses[s]))),
                small_classes=small,
            )
        )


Side = Runs | CrossFitted


def _sides(gathered: Gathered, strategy: str, runs: dict[str, Runs]) -> Mapping[str, Side]:
    """Return by metric what is compared for a strategy: its runs, or with nested folds its passes."""
    if not gathered.nested:
        return runs
    folds, predicted = outer_folds(gathered), [*gathered.predicted[strategy].values()]
    found = {m: cross_fit(np.stack(predicted), folds, m) for m in gathered.metrics if m in st.METRICS}
    if gathered.metric.key not in found:
        shares = gathered.probabilities.get(strategy, {}).values() or [None] * len(predicted)
        said = [Said(named=p, probabilities=q) for p, q in zip(predicted, shares, strict=True)]
        found[gathered.metric.key] = cross_fit_asked(said, folds, gathered.metric)
    return found


def outer_folds(gathered: Gathered) -> OuterFolds:
    """Return the test images of nested folds with their labels, folds and groups."""
    return OuterFolds(labels=gathered.labels, fold=gathered.fold, classes=gathered.num_classes, groups=gathered.groups)


def side_of(gathered: Gathered, strategy: str, resamples: int) -> Side:
    """Return what is compared for a strategy on the study's metric."""
    return _sides(gathered, strategy, {} if gathered.nested else runs_by_metric(gathered, strategy, resamples))[gathered.metric.key]


def mean_of(side: Side) -> Estimate:
    """Return the strategy's mean score with its uncertainty."""
    return mean_estimate(side) if isinstance(side, Runs) else cross_fitting.mean_estimate(side)


def difference_of(a: Side, b: Side) -> Estimate:
    """Return A minus B. Both must be runs, or both passes over nested folds."""
    if isinstance(a, CrossFitted) and isinstance(b, CrossFitted):
        return cross_fitting.difference(a, b)
    assert isinstance(a, Runs) and isinstance(b, Runs)
    return difference(a, b)


def runs_by_metric(gathered: Gathered, strategy: str, resamples: int) -> dict[str, Runs]:
    """Return the scored runs of a strategy by metric. Each of several folds is scored for itself."""
    return _joined(runs_by_fold(gathered, strategy, resamples))


def runs_by_fold(gathered: Gathered, strategy: str, resamples: int) -> list[dict[str, Runs]]:
    by_seed = gathered.predicted[strategy]
    search = [gathered.searches[seed] for seed in by_seed]
    parts: list[dict[str, Runs]] = []
    for again in gathered.resample(resamples):
        predicted, labels = (p[again.images] for p in by_seed.values()), gathered.labels[again.images]
        units = st.image_units(len(labels), again.groups)
        shares = [q[again.images] for q in gathered.probabilities.get(strategy, {}).values()]
        parts.append(
            score_runs(
                predicted,
                search,
                labels,
                gathered.num_classes,
                again.weights,
                units,
                [m for m in gathered.metrics if m in st.METRICS],
                asked=gathered.metric,
                probabilities=shares,
            )
        )
    return parts


def _joined(parts: Sequence[dict[str, Runs]]) -> dict[str, Runs]:
    return {m: join_folds([part[m] for part in parts]) for m in parts[0]}


def _run_rows(gathered: Gathered, strategy: str, parts: Sequence[dict[str, Runs]]) -> Rows:
    """Return one row per network and metric. The network is given, so its interval is over test images alone."""
    out: Rows = []
    for fold, part in enumerate(parts) if gathered.trials else ():
        for metric, runs in part.items():
            own = zip(gathered.trials[strategy].values(), runs.scores, runs.resampled, strict=True)
            for trials, score, again in {trials[fold]: (trials, score, again) for trials, score, again in own}.values():
                low, high = share_interval(images_estimate(float(score), again, runs.units, runs.metric))
                out.append({"trial_id": trials[fold], "metric": metric, "score": float(score), "low": low, "high": high})
    return out


def _by_seed(gathered: Gathered, strategy: str, runs: Side) -> np.ndarray:
    """Return the scores [K] by seed: the mean over several folds. With nested folds it is one score a pass, over all its predictions."""
    if isinstance(runs, CrossFitted):
        return runs.scores
    return runs.scores.reshape(-1, len(gathered.predicted[strategy])).mean(axis=0)


def _over_search(gathered: Gathered, strategy: str) -> np.ndarray:
    """Return [K] validation scores beside the search's, in the order of the runs, or by fold where folds are nested. NaN: not known."""
    known, trials = gathered.over_search.get(strategy, {}), gathered.trials.get(strategy, {})
    by_fold = (trial for fold in zip(*trials.values(), strict=True) for trial in fold)
    return np.array([known.get(run, math.nan) for run in (by_fold if gathered.nested else gathered.predicted[strategy])])


def _over_search_by_trial(frames: Frames, block: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return `over_search` by trial, for nested folds, whose confirm runs each have a seed of their own."""
    by_seed = over_search(frames, block)
    return {str(s): {str(t): by_seed[s][k] for t, k in zip(own.trial_id, own.seed, strict=True)} for s, own in block.groupby("strategy")}


def _secondary_row(gathered: Gathered, a: str, b: str, metric: str, e: Estimate) -> dict[str, Any]:
    low, high = difference_interval(e)
    return {**gathered.question.columns, "a": a, "b": b, "metric": metric, "difference": e.mean, "low": low, "high": high}


def _strategy_row(gathered: Gathered, strategy: str, metric: str, runs: Runs, side: Side, collapse: Collapse) -> dict[str, Any]:
    e, scores = mean_of(side), _by_seed(gathered, strategy, side)
    low, high = share_interval(e)
    units = st.image_units(len(gathered.labels), gathered.groups) if gathered.nested else runs.units
    return {
        **gathered.question.columns,
        "strategy": strategy,
        "metric": metric,
        "mean": e.mean,
        "low": low,
        "high": high,
        "median": float(np.median(scores)),
        "seeds": len(runs.scores) if gathered.nested else len(scores),
        "searches": e.searches if gathered.nested else len(np.unique(runs.search)),
        "collapsed": collapse.collapsed,
        "collapsed_at_most": collapse.at_most,
        "sd_seeds": float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan,
        "se_runs": math.sqrt(sum(p.variance for p in e.runs)),
        "se_images": math.sqrt(e.images.variance),
        "images": len(gathered.labels),
        "units": units.groups,
        "effective_units": units.effective,
    }


def _seed_rows(gathered: Gathered, strategy: str, metric: str, scores: np.ndarray) -> Rows:
    return [
        {**gathered.question.columns, "strategy": strategy, "seed": seed, "number": k, "metric": metric, "score": float(score)}
        for k, (seed, score) in enumerate(zip(gathered.predicted[strategy], scores, strict=True))
    ]
