"""Test scores as plain values, kept among a study's facts, so that a tracker can show them without computing anything."""

import math
from typing import Any

import pandas as pd

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.verdict import Findings


def score_facts(frames: Frames, found: Findings) -> dict[str, Any]:
    """Return by metric {mean, low, high}, shares in [0, 1], empty where nothing was confirmed.

    `trials` has every confirm run's own score, with its interval over test images. `cells` has by id the mean over a cell's runs, with
    the interval of the verdict (absent for a single run).
    """
    trials: dict[str, dict[str, dict[str, float]]] = {}
    for row in found.runs.to_dict("records"):
        trials.setdefault(row["trial_id"], {})[row["metric"]] = _score(row["score"], row["low"], row["high"])
    cells: dict[str, dict[str, dict[str, float]]] = {}
    for cell in frames.cells.values():
        for row in _of(found.strategies, frames.question_of(cell), cell.strategy).to_dict("records"):
            cells.setdefault(cell.id, {})[row["metric"]] = _score(row["mean"], row["low"], row["high"])
    return {"trials": trials, "cells": cells} if trials else {}


def _of(strategies: pd.DataFrame, question: Question, strategy: str) -> pd.DataFrame:
    if not len(strategies):
        return strategies
    own = strategies[strategies.strategy == strategy]
    for column, value in question.columns.items():
        own = own[own[column] == value]
    return own


def _score(mean: float, low: float, high: float) -> dict[str, float]:
    return {"mean": mean} if math.isnan(low) else {"mean": mean, "low": low, "high": high}
