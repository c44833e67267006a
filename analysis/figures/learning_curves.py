"""Learning curves of the chosen configurations, with the gap between training and validation."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.load import Frames
from analysis.theme import colour, empty, label, styled
from analysis.verdict import Findings, question_name

TITLE = "Learning curves and the gap between training and validation"
NOTE = "Mean over confirm runs (search runs where none are done). Full line: validation macro-F1; dotted: the same on a fixed part of the training images, in eval mode without augmentation. The gap between them is overfitting."


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    t, e = frames.trials, frames.epochs
    if not len(t) or not len(e):
        return pd.DataFrame()
    confirmed = frames.confirmed()
    shown = confirmed if len(confirmed) else t[t.trial_id.isin(frames.chosen.values())]
    if not len(shown):
        return pd.DataFrame()
    shown = shown.assign(question=[question_name({**r, "splits": r["splits"].partition(":")[0]}) for r in shown.to_dict("records")])
    merged = e.merge(shown[["trial_id", "question", "strategy"]], on="trial_id")
    grouped = (
        merged.groupby(["question", "strategy", "epoch"], sort=False)[["val/macro_f1", "train/macro_f1", "train/loss", "val/nll"]]
        .mean()
        .reset_index()
    )
    grouped["gap"] = grouped["train/macro_f1"] - grouped["val/macro_f1"]
    return grouped


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("No chosen configuration has completed an epoch yet.")
    questions = list(dict.fromkeys(frame.question))
    figure = make_subplots(rows=1, cols=len(questions), subplot_titles=[label(q) for q in questions])
    shown: set[str] = set()
    for column, question in enumerate(questions, 1):
        for strategy in dict.fromkeys(frame[frame.question == question].strategy):
            own = frame[(frame.question == question) & (frame.strategy == strategy)]
            for metric, dash in (("val/macro_f1", "solid"), ("train/macro_f1", "dot")):
                figure.add_scatter(
                    x=own.epoch,
                    y=100 * own[metric],
                    mode="lines+markers",
                    line={"color": colour(strategy), "dash": dash, "width": 2.5},
                    name=label(strategy),
                    legendgroup=strategy,
                    showlegend=metric.startswith("val") and strategy not in shown,
                    hovertemplate="epoch %{x}: %{y:.1f}<extra>" + label(strategy) + f", {metric.split('/')[0]}</extra>",
                    row=1,
                    col=column,
                )
            shown.add(strategy)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text="macro-F1, points", col=1)
    return styled(figure, height=400)
