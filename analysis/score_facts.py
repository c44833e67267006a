"""Test scores as plain values, kept among a study's facts, so that a tracker can show them without computing anything."""

import math
from typing import Any

import pandas as pd

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.findings.network_scores import Score, natural
from analysis.verdict import Findings
from study.scoring.metric import DEFAULT, Metric


def score_facts(frames: Frames, found: Findings) -> dict[str, Any]:
    """Return by metric {mean, low, high}, the metric's own numbers, empty where nothing was confirmed.

    `trials` has every confirm run's own score, with its interval over test images. `cells` has by id the mean over a cell's runs, with
    the interval of the verdict (absent for a single run).
    """
    trials: dict[str, dict[str, dict[str, float]]] = {}
    for row in found.runs.to_dict("records"):
        trials.setdefault(row["trial_id"], {})[name_of(row["metric"], frames.scored_by)] = _score(row, "score", frames)
    cells: dict[str, dict[str, dict[str, float]]] = {}
    for cell in frames.cells.values():
        for row in _of(found.strategies, frames.question_of(cell), cell.strategy).to_dict("records"):
            cells.setdefault(cell.id, {})[name_of(row["metric"], frames.scored_by)] = _score(row, "mean", frames)
    return {"trials": trials, "cells": cells} if trials else {}


def _of(strategies: pd.DataFrame, question: Question, strategy: str) -> pd.DataFrame:
    if not len(strategies):
        return strategies
    own = strategies[strategies.strategy == strategy]
    for column, value in question.columns.items():
        own = own[own[column] == value]
    return own


def name_of(key: str, metric: Metric) -> str:
    """A metric's own name where tables have that of its score, which is the negative of a loss: "cost" of "neg_cost"."""
    return metric.name if key == metric.key else key


def _score(row: dict[str, Any], mean: str, frames: Frames) -> dict[str, float]:
    score = Score(mean=row[mean], low=row["low"], high=row["high"])
    own = natural(score, frames.scored_by if row["metric"] == frames.scored_by.key else DEFAULT)
    return {"mean": own["mean"]} if math.isnan(score.low) else own
