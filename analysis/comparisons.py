"""From predictions to tables: the confirm runs of a question gathered, every strategy scored, every pair compared."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis import statistics as st
from analysis.frames import Frames
from analysis.predictions import Predictions, measured_path, refusal
from analysis.question import Question

Rows = list[dict[str, Any]]


@dataclass(kw_only=True, eq=False)
class Gathered:
    """A question's confirm runs on the images they share; folds hold different images and are put end to end."""

    question: Question
    labels: np.ndarray  # [N]
    groups: np.ndarray | None  # [N]
    predicted: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)  # strategy -> seed -> classes [N]

    @property
    def num_classes(self) -> int:
        return max(int(self.labels.max()) + 1, *(int(p.max()) + 1 for runs in self.predicted.values() for p in runs.values()))


@dataclass(kw_only=True, eq=False)
class Tables:
    """Rows, as `Findings` names them; a pair's row carries its Interval until it is decided."""

    seeds: Rows = field(default_factory=list)
    strategies: Rows = field(default_factory=list)
    pairs: Rows = field(default_factory=list)


def compare_all(frames: Frames, resamples: int) -> Tables:
    """Every question that has confirm runs with predictions on test."""
    tables = Tables()
    done = frames.confirmed()
    if len(done):
        for question, block in done.assign(question=frames.questions(done)).groupby("question", sort=False):
            gathered = gather(frames, question, block)
            if gathered is not None:
                compare_strategies(gathered, resamples, tables)
    return tables


@dataclass(frozen=True, kw_only=True, eq=False)
class WholeRun:
    """A confirm run with predictions of every fold."""

    strategy: str
    seed: int
    trials: list[str]  # by fold
    tests: list[Predictions]  # by fold


def gather(frames: Frames, question: Question, block: pd.DataFrame) -> Gathered | None:
    """None where no confirm run has predictions of every fold. Raises EnvironmentProblem for a run on other images than the others'."""
    runs = [*_whole_runs(frames, block)]
    if not runs:
        return None
    _refuse_strangers(frames, question, runs)
    first = runs[0].tests
    found = Gathered(question=question, labels=np.concatenate([p.labels for p in first]), groups=_groups(first))
    for run in runs:
        found.predicted.setdefault(run.strategy, {})[run.seed] = np.concatenate([p.logits.argmax(axis=1) for p in run.tests])
    return found


def _whole_runs(frames: Frames, block: pd.DataFrame) -> Iterator[WholeRun]:
    """The confirm runs that are complete; those that are not, `analysis.losses` names."""
    for strategy, own in block.groupby("strategy", sort=False):
        for seed, folds in own.sort_values(["seed", "splits"]).groupby("seed", sort=False):
            trials = [str(t) for t in folds["trial_id"]]
            tests = [p for t in trials if (p := frames.predictions(t).get("test")) is not None]
            if len(tests) == len(folds) >= frames.study.confirm_folds:
                yield WholeRun(strategy=str(strategy), seed=int(seed), trials=trials, tests=tests)


def _refuse_strangers(frames: Frames, question: Question, runs: Sequence[WholeRun]) -> None:
    """Runs on other images cannot be paired, and leaving one out would change the verdict: the file that stands alone is named."""
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


def _groups(parts: list[Predictions]) -> np.ndarray | None:
    known = [p.groups for p in parts if p.groups is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def compare_strategies(gathered: Gathered, resamples: int, tables: Tables) -> None:
    """Adds to `tables`: the same resampled images for every strategy and metric, so that all of it pairs up."""
    rng = np.random.Generator(np.random.Philox(key=[20, 21]))
    labels, groups, classes = gathered.labels, gathered.groups, gathered.num_classes
    weights = st.image_weights(len(labels), groups, resamples, rng)
    units = len(labels) if groups is None else len(np.unique(groups))
    for metric in st.METRICS:
        runs = {s: st.runs([*by_seed.values()], labels, classes, weights, units, metric) for s, by_seed in gathered.predicted.items()}
        for strategy, own in runs.items():
            tables.strategies.append(_strategy_row(gathered, strategy, metric, own))
            tables.seeds += _seed_rows(gathered, strategy, metric, own)
        if metric == "macro_f1":
            tables.pairs += [_pair_row(gathered.question, a, b, st.compare(runs[a], runs[b])) for a, b in combinations(runs, 2)]


def _strategy_row(gathered: Gathered, strategy: str, metric: str, runs: st.Runs) -> dict[str, Any]:
    i = st.mean_interval(runs)
    return {
        **gathered.question.columns,
        "strategy": strategy,
        "metric": metric,
        "mean": i.mean,
        "low": i.low,
        "high": i.high,
        "seeds": i.seeds,
        **_deviations(i),
        "images": len(gathered.labels),
        "units": runs.units,
    }


def _seed_rows(gathered: Gathered, strategy: str, metric: str, runs: st.Runs) -> Rows:
    seeds = gathered.predicted[strategy]
    return [
        {**gathered.question.columns, "strategy": strategy, "seed": seed, "number": k, "metric": metric, "score": float(score)}
        for k, (seed, score) in enumerate(zip(seeds, runs.scores, strict=True))
    ]


def _pair_row(question: Question, a: str, b: str, compared: st.Comparison) -> dict[str, Any]:
    d = compared.difference
    return {
        **question.columns,
        "a": a,
        "b": b,
        "difference": d.mean,
        "low": d.low,
        "high": d.high,
        "seeds": d.seeds,
        "p": d.p,
        "permutation_p": compared.permutation_p,
        "superiority": compared.superiority,
        **_deviations(d),
        "interval": d,
    }


def _deviations(i: st.Interval) -> dict[str, float]:
    return {"sd_seeds": math.sqrt(i.var_seeds) if i.seeds > 1 else math.nan, "sd_images": math.sqrt(i.var_images)}
