"""Measures on confirm runs, one number per run, that each of the paper's explanations rests on."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.frames import Frames
from study.question.studies import EVERY_MEASURE

MEASURED = tuple(name for name in EVERY_MEASURE if name != "predictions")
"""The measurements that this package reads, by the names that study.measure gives them."""
SATURATED = 0.05  # both strategies' agreement below it: two zeros say nothing


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number per run, and the direction that the explanation claims for it."""

    name: str
    short: str  # in a sentence
    title: str  # in full
    claim: int  # +1: the strategy that trains less has more of it, by the explanation; -1: less
    points: bool  # a share, shown times 100
    of_runs: Callable[[Frames, pd.DataFrame], pd.Series]  # (frames, confirm runs) -> by trial_id
    saturates: bool = False
    beside: bool = False  # shown, and no verdict rests on it: it is about the weights, not about what the network answers or sees


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One of the paper's reasons why the strategy that trains less wins."""

    name: str
    title: str
    section: str  # of the paper
    measures: tuple[Measure, ...]
    relation: str  # over all trials of a cell, this goes down where scores go up, by the explanation: a column of `trial_figures`


def distance_by_epoch(epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the columns trial_id, epoch and distance from the start, empty where no epoch recorded it.

    The distance is the root mean square over the stages below the head, where frozen stages count as 0.
    """
    columns = [c for c in epochs.columns if str(c).startswith("distance/stage_")]
    if not columns:
        return pd.DataFrame(columns=["trial_id", "epoch", "distance"])
    return epochs[["trial_id", "epoch"]].assign(distance=np.sqrt((epochs[columns].fillna(0) ** 2).mean(axis=1)))


@functools.lru_cache(maxsize=1)  # several measures ask, question by question
def trial_figures(frames: Frames) -> pd.DataFrame:
    """Return one row per trial with a score: cell, score, train score, `gap`, and `distance` from the start at the kept epoch and after
    the first.
    """
    t, e = frames.trials, frames.epochs
    if not len(t) or not len(e) or frames.scored_by.recorded not in t:
        return pd.DataFrame()
    far = distance_by_epoch(e)
    first = far[far.epoch == 1].set_index("trial_id").distance
    at_best = t[["trial_id", "best_epoch"]].rename(columns={"best_epoch": "epoch"})
    kept = far.merge(at_best, on=["trial_id", "epoch"]).set_index("trial_id").distance
    scored = t[t[frames.scored_by.recorded].notna()].set_index("trial_id")

    def column(name: str) -> pd.Series:
        return scored[name] if name in scored else pd.Series(math.nan, index=scored.index)

    return pd.DataFrame(
        {
            "cell": scored.cell,
            "stage": scored.stage,
            "score": scored[frames.scored_by.recorded],
            "train": column(f"train/{frames.scored_by.key}"),
            "distance": kept.reindex(scored.index),
            "first_distance": first.reindex(scored.index),
            "gap": column("train/accuracy") - column("val/accuracy"),
        }
    )


def _column(
    name: str, keep: Callable[[pd.DataFrame], pd.DataFrame], value: Callable[[pd.DataFrame], pd.Series]
) -> Callable[[Frames, pd.DataFrame], pd.Series]:
    """Return a function that averages a column of measurement `name` by trial: the `value` of the rows that `keep` keeps."""

    def of_runs(frames: Frames, runs: pd.DataFrame) -> pd.Series:
        found = frames.measured(name)
        if not len(found):
            return pd.Series(dtype=float)
        own = keep(found)
        return value(own).groupby(own.trial_id).mean() if len(own) else pd.Series(dtype=float)

    return of_runs


def _from_trials(column: str) -> Callable[[Frames, pd.DataFrame], pd.Series]:
    def of_runs(frames: Frames, runs: pd.DataFrame) -> pd.Series:
        figures = trial_figures(frames)
        return figures[column].reindex(runs.trial_id).dropna() if len(figures) else pd.Series(dtype=float)

    return of_runs


def _last(frames: Frames, column: str) -> pd.Series:
    """Return by trial the value of `column` at its last epoch, empty where no epoch has it."""
    if column not in frames.epochs:
        return pd.Series(dtype=float)
    return frames.epochs.dropna(subset=[column]).sort_values("epoch").groupby("trial_id")[column].last()


def _memorised(frames: Frames, runs: pd.DataFrame) -> pd.Series:
    """Return, for each confirm run, the share that its twin with wrong labels had learnt by heart in the end."""
    twins, last = frames.explained("memorisation"), _last(frames, "wrong/memorised")
    if not len(twins):
        return pd.Series(dtype=float)
    by = {(cell, number): last.get(trial) for cell, number, trial in zip(twins.cell, twins.number, twins.trial_id, strict=True)}
    found = [by.get((cell, number)) for cell, number in zip(runs.cell, runs.number, strict=True)]
    return pd.Series(found, index=runs.trial_id, dtype=float).dropna()


def _disputed(frames: Frames, runs: pd.DataFrame) -> pd.Series:
    return _last(frames, "disputed/memorised").reindex(runs.trial_id).dropna()


def _accuracy_between(name: str, column: str, first: object, second: object) -> Callable[[Frames, pd.DataFrame], pd.Series]:
    """Return a function for measurement `name`: accuracy where `column` is `first` minus accuracy where it is `second`."""

    def of_runs(frames: Frames, runs: pd.DataFrame) -> pd.Series:
        found = frames.measured(name)
        if not len(found):
            return pd.Series(dtype=float)
        by = found.pivot_table(index="trial_id", columns=column, values="accuracy")
        return by[first] - by[second]

    return of_runs


EXPLANATIONS = (
    Explanation(
        name="reuse",
        title="Features are reused rather than corrupted",
        section="7.1",
        relation="distance",
        measures=(
            Measure(
                name="own_probe",
                short="the probe on its own task",
                title="what a linear probe gains on its features over the pretrained ones, own task",
                claim=+1,
                points=True,
                of_runs=_column("reprobe", lambda r: r[~r.foreign.astype(bool)], lambda r: r.accuracy - r.accuracy_before),
            ),
            Measure(
                name="alignment",
                short="the alignment of the last stage",
                title="alignment of its last stage's features with the pretrained ones (CKA)",
                claim=+1,
                points=False,
                of_runs=_column("cka", lambda r: r[r.stage == 1], lambda r: r.cka),  # frozen stages align by construction
            ),
        ),
    ),
    Explanation(
        name="overfitting",
        title="It overfits less to small data, backgrounds and copies",
        section="7.2",
        relation="gap",
        measures=(
            Measure(
                name="gap",
                short="the gap between training and validation",
                title="training minus validation accuracy",
                claim=-1,
                points=True,
                of_runs=_from_trials("gap"),
            ),
            Measure(
                name="memorised",
                short="memorised wrong labels",
                title="wrong labels learnt by heart in the end, of those given",
                claim=-1,
                points=True,
                of_runs=_memorised,
            ),
            Measure(
                name="disputed",
                short="learnt disputed labels",
                title="labels learnt by heart in the end, of those that later annotators dispute",
                claim=-1,
                points=True,
                of_runs=_disputed,
            ),
            Measure(
                name="background_gap",
                short="the loss by foreign backgrounds",
                title="accuracy lost when a background of its class gives way to one of any class",
                claim=-1,
                points=True,
                of_runs=_accuracy_between("background", "change", "background of its class", "background of any class"),
            ),
            Measure(
                name="copies",
                short="the gain on copies",
                title="accuracy on test images that have a copy in train minus accuracy on the others",
                claim=-1,
                points=True,
                of_runs=_accuracy_between("copies", "copied", True, False),
            ),
        ),
    ),
    Explanation(
        name="forgetting",
        title="It does not forget what it was pretrained on",
        section="7.3",
        relation="first_distance",
        measures=(
            Measure(
                name="agreement",
                short="the original head's answers",
                title="images on which the original head still answers as before",
                claim=+1,
                points=True,
                saturates=True,
                of_runs=_column("forgetting", lambda r: r[r.kind == "as it is"], lambda r: r.agreement),
            ),
            Measure(
                name="agreement_anew",
                short="the original head's answers on new batch-norm statistics",
                title="the same where the batch-norm statistics of both networks are estimated anew",
                claim=+1,
                points=True,
                saturates=True,
                of_runs=_column("forgetting", lambda r: r[r.kind == "batch norm re-estimated"], lambda r: r.agreement),
            ),
            Measure(
                name="kl",
                short="the original head's divergence",
                title="divergence of the original head's answers from those before (nats)",
                claim=-1,
                points=False,
                of_runs=_column("forgetting", lambda r: r[r.kind == "as it is"], lambda r: r.kl),
            ),
            Measure(
                name="foreign_probe",
                short="the probes on foreign tasks",
                title="what a linear probe gains on its features over the pretrained ones, foreign tasks",
                claim=+1,
                points=True,
                of_runs=_column("reprobe", lambda r: r[r.foreign.astype(bool)], lambda r: r.accuracy - r.accuracy_before),
            ),
            Measure(
                name="first_distance",
                short="the distance after the first epoch",
                title="distance from the start after the first epoch, as a share of the weights' norm",
                claim=-1,
                points=False,
                of_runs=_from_trials("first_distance"),
                beside=True,
            ),
        ),
    ),
)
