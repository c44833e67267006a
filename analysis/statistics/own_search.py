"""Confirm runs compared with the search that chose their settings: this tells an unlucky run from a search that found poor settings."""

import math

import numpy as np
import pandas as pd

from analysis.data.frames import Frames


def over_search(frames: Frames, runs: pd.DataFrame) -> dict[str, dict[int, float]]:
    """Return by strategy and seed the validation score of a confirm run minus the one with which its settings won their search, as shares.

    The run's score is that at its last epoch. With several folds it is the mean over them. `runs` are those of one question, as
    Frames.confirmed gives them.

    NaN where a score is missing: nothing is left of the run's epochs or of the search's trial. Where one search found the settings of
    all of a strategy's runs, its score moves them alike and cannot tell one from another, so it is left out where it is missing.
    """
    last, won = last_scores(frames, runs), _won(frames)
    out: dict[str, dict[int, float]] = {}
    for strategy, own in runs.groupby("strategy", sort=False):
        winners = [_winner(frames, str(cell), int(number)) for cell, number in zip(own["cell"], own["number"], strict=True)]
        missing = 0.0 if len(set(winners)) == 1 else math.nan
        found = own.assign(over=[last.get(t, math.nan) - won.get(w, missing) for t, w in zip(own["trial_id"], winners, strict=True)])
        by_seed = found.groupby("seed", sort=False)["over"]
        out[str(strategy)] = {int(seed): float(np.mean(folds.to_numpy())) for seed, folds in by_seed}
    return out


def last_scores(frames: Frames, runs: pd.DataFrame) -> dict[str, float]:
    """Return by trial the validation score at the last epoch, for those of `runs` that have epochs.

    The epoch that was kept does not matter.
    """
    epochs, objective = frames.epochs, frames.scored_by.recorded
    if objective not in epochs:
        return {}
    own = epochs[epochs["trial_id"].isin(runs["trial_id"])].sort_values("epoch", kind="stable").groupby("trial_id").tail(1)
    return {str(t): float(score) for t, score in zip(own["trial_id"], own[objective], strict=True)}


def _won(frames: Frames) -> dict[str, float]:
    """Return by winning search trial the score that it won with."""
    t, objective = frames.trials, frames.scored_by.recorded
    winners = {w for own in frames.confirmed_trials.values() for w in own}
    own = t[t["trial_id"].isin(winners) & t[objective].notna()] if objective in t else t.head(0)
    return {str(w): float(score) for w, score in zip(own["trial_id"], own[objective], strict=True)} if len(own) else {}


def _winner(frames: Frames, cell: str, number: int) -> str:
    """Return the search trial whose settings confirm run `number` of a cell trains, or "" where none is known."""
    own = frames.confirmed_trials.get(cell) or [""]
    return own[frames.study.search_of(number, len(own))]
