"""Expected best validation score against the number of trials, with bands, from i.i.d. trials only (Dodge et al. 2019; Lourie et al.
2024).
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy.special import gammaln

from analysis.data.frames import Frames
from analysis.figures.in_metric import marked, metric_in
from analysis.page.theme import band, colour, dash, empty, facets, label, named, styled, symbol
from analysis.verdict import Findings
from study.scoring.metric import Metric, without_score

TITLE = "What would more trials bring?"
NOTE = (
    "The best validation {metric} to expect from n random trials. It is optimistic, since a search chose by it. From 16 "
    "trials on, 80 % simultaneous bands are shown (opda). Only random trials that were never stopped are used, since those "
    "of the sampler depend on each other. A diverged trial counts as {nothing}."
)
CONFIDENCE = 0.8
FEWEST = 3
FEWEST_FOR_A_BAND = 16  # below it a band spans half the scale


def expected_best(scores: np.ndarray) -> np.ndarray:
    """Return [N] the mean best score over all subsets of 1, 2, ...

    N of the trials [N]. Sampling is without replacement, so it is unbiased.
    """
    total = len(scores)
    rank, drawn = (
        np.arange(total),
        np.arange(1, total + 1)[:, None],
    )  # the one of rank k (from 0) is the best of n in C(k, n - 1) of C(N, n)
    best_of = np.where(rank >= drawn - 1, _log_comb(np.maximum(rank, drawn - 1), drawn - 1) - _log_comb(total, drawn), -np.inf)
    out: np.ndarray = np.exp(best_of) @ np.sort(scores)
    return out


def _log_comb(n: np.ndarray | int, k: np.ndarray) -> np.ndarray:
    out: np.ndarray = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return out


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    used, metric = frames.random_trials(), frames.scored_by
    for cell, own in used.groupby("cell", sort=False) if len(used) else []:
        question, strategy = frames.questions(own)[0], own.iloc[0].strategy
        known = metric.recorded in own
        scores = without_score(own[metric.recorded].to_numpy(float), metric) if known else np.zeros(len(own))
        if len(scores) < FEWEST:
            continue
        expected, (low, high) = expected_best(scores), _bands(scores, metric)
        for k in range(len(scores)):
            rows.append(
                {
                    "question": question,
                    "strategy": strategy,
                    "cell": cell,
                    "trials": k + 1,
                    "low": low[k],
                    "expected": expected[k],
                    "high": high[k],
                    "used": len(scores),
                    "seconds_each": float(own.seconds.mean()),
                }
            )
    return marked(pd.DataFrame(rows), metric)


def _bands(scores: np.ndarray, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Return the low and high ends [N] of the band, NaN below FEWEST_FOR_A_BAND trials."""
    if len(scores) < FEWEST_FOR_A_BAND:
        return (np.full(len(scores), np.nan),) * 2
    from opda.nonparametric import EmpiricalDistribution

    low_end = metric.low if np.isfinite(metric.low) else float(scores.min())
    low, _, high = EmpiricalDistribution.confidence_bands(scores, CONFIDENCE, a=low_end, b=metric.high, method="dkw", n_jobs=1)
    # a low distribution function means high scores: the bands swap
    one, other = (d.average_tuning_curve(np.arange(1, len(scores) + 1)) for d in (high, low))
    return np.minimum(one, other), np.maximum(one, other)


def draw(frame: pd.DataFrame) -> go.Figure:
    return draw_against(frame, "trials", "random trials")


def draw_against(frame: pd.DataFrame, x: str, title: str) -> go.Figure:
    if not len(frame):
        return empty(f"Needs at least {FEWEST} finished random trials in a cell.")
    metric = metric_in(frame)
    figure, places = facets(frame.question, height=400)
    for question, (at,) in places.items():
        for strategy, own in frame[frame.question == question].groupby("strategy", sort=False):
            banded = own.low.notna().all()
            if banded:
                band(figure, strategy, own[x], own.low, own.high, at, metric)
            figure.add_scatter(
                x=own[x],
                y=metric.shown(own.expected),
                mode="lines+markers" if banded else "markers",
                line={"color": colour(strategy), "dash": dash(strategy), "width": 2.5},
                marker={"symbol": symbol(strategy)},
                hovertemplate="%{x:.3g}: %{y:.1f}<extra>" + label(strategy) + "</extra>",
                **named(strategy) | ({"name": f"{label(strategy)} ({own.used.iloc[0]} trials)"} if len(places) == 1 else {}),
                **at,
            )
    figure.update_xaxes(title_text=title)
    figure.update_yaxes(title_text=f"validation {metric.words}, {metric.unit}", col=1)
    return styled(figure)
