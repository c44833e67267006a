"""Expected best validation score against the number of trials, with bands, from i.i.d. trials alone (Dodge et al. 2019; Lourie et al. 2024)."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.frames import Frames
from analysis.theme import colour, dash, empty, facets, faded, label, named, styled, symbol
from analysis.verdict import Findings
from study.records import OBJECTIVE

TITLE = "Tuning curves: what more trials would have bought"
NOTE = "Expected best validation macro-F1 of n random trials, with 80 % simultaneous bands (opda). Only the random, never-stopped trials are used: those of TPE are not independent."
CONFIDENCE = 0.8
FEWEST = 3


def random_trials(frames: Frames) -> pd.DataFrame:
    t = frames.trials
    if not len(t):
        return t
    return t[(t.stage == "search") & (t.origin == "random") & (t.outcome != "running")]


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    from opda.nonparametric import EmpiricalDistribution

    rows: list[dict[str, object]] = []
    used = random_trials(frames)
    for cell, own in used.groupby("cell", sort=False) if len(used) else []:
        question, strategy = frames.questions(own)[0], own.iloc[0].strategy
        scores = own[OBJECTIVE].fillna(0.0).to_numpy(float) if OBJECTIVE in own else np.zeros(len(own))  # a diverged trial found nothing
        if len(scores) < FEWEST:
            continue
        n = np.arange(1, len(scores) + 1)
        low, point, high = EmpiricalDistribution.confidence_bands(scores, CONFIDENCE, a=0.0, b=1.0, method="dkw", n_jobs=1)
        # a low distribution function means high scores: the bands swap
        curves = [d.average_tuning_curve(n) for d in (high, point, low)]
        worst, best = np.minimum(curves[0], curves[2]), np.maximum(curves[0], curves[2])
        for k, trials in enumerate(n):
            rows.append(
                {
                    "question": question,
                    "strategy": strategy,
                    "cell": cell,
                    "trials": int(trials),
                    "low": worst[k],
                    "expected": curves[1][k],
                    "high": best[k],
                    "used": len(scores),
                    "seconds_each": float(own.seconds.mean()),
                }
            )
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> go.Figure:
    return draw_against(frame, "trials", "random trials")


def draw_against(frame: pd.DataFrame, x: str, title: str) -> go.Figure:
    if not len(frame):
        return empty(f"Needs at least {FEWEST} finished random trials in a cell.")
    figure, places = facets(frame.question, height=400)
    for question, (at,) in places.items():
        for strategy, own in frame[frame.question == question].groupby("strategy", sort=False):
            figure.add_scatter(
                x=[*own[x], *own[x][::-1]],
                y=[*(100 * own.high), *(100 * own.low[::-1])],
                fill="toself",
                mode="lines",
                fillcolor=faded(strategy),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=strategy,
                **at,
            )
            figure.add_scatter(
                x=own[x],
                y=100 * own.expected,
                mode="lines+markers",
                line={"color": colour(strategy), "dash": dash(strategy), "width": 2.5},
                marker={"symbol": symbol(strategy)},
                hovertemplate="%{x:.3g}: %{y:.1f}<extra>" + label(strategy) + "</extra>",
                **named(strategy) | ({"name": f"{label(strategy)} ({own.used.iloc[0]} trials)"} if len(places) == 1 else {}),
                **at,
            )
    figure.update_xaxes(title_text=title)
    figure.update_yaxes(title_text="validation macro-F1, points", col=1)
    return styled(figure)
