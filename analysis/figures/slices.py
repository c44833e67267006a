"""Validation score along each hyperparameter."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.parallel import AXES
from analysis.load import Frames
from analysis.theme import colour, empty, label, styled, symbol
from analysis.verdict import Findings, question_name
from study.records import OBJECTIVE

TITLE = "Search: one hyperparameter at a time"
NOTE = "Open marks: stopped early. A best value at the end of an axis means the range was too narrow."


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    t = frames.trials
    if not len(t) or OBJECTIVE not in t:
        return pd.DataFrame()
    own = t[(t.stage == "search") & t[OBJECTIVE].notna()].copy()
    own["question"] = [question_name(r) for r in own.to_dict("records")]
    columns = [c for c in (f"hp/{a}" for a in AXES) if c in own]
    long = own.melt(["question", "strategy", "trial_id", "outcome", OBJECTIVE], columns, "hyperparameter", "value").dropna(subset=["value"])
    return long.assign(hyperparameter=long.hyperparameter.str.removeprefix("hp/")).reset_index(drop=True)


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("No search trial has a score yet.")
    questions, names = list(dict.fromkeys(frame.question)), list(dict.fromkeys(frame.hyperparameter))
    figure = make_subplots(
        rows=len(questions),
        cols=len(names),
        shared_yaxes=True,
        horizontal_spacing=0.02,
        vertical_spacing=0.22 / max(len(questions), 1),
        row_titles=[label(q) for q in questions],
    )
    shown: set[str] = set()
    for row, question in enumerate(questions, 1):
        for column, name in enumerate(names, 1):
            block = frame[(frame.question == question) & (frame.hyperparameter == name)]
            for strategy in dict.fromkeys(block.strategy):
                own = block[block.strategy == strategy]
                shapes = [symbol(strategy) + ("-open" if o == "stopped" else "") for o in own.outcome]
                figure.add_scatter(
                    x=own.value.astype(float),
                    y=100 * own[OBJECTIVE],
                    mode="markers",
                    marker={"color": colour(strategy), "symbol": shapes, "size": 8},
                    name=label(strategy),
                    legendgroup=strategy,
                    showlegend=strategy not in shown,
                    hovertemplate=f"{name} %{{x:.3g}}: %{{y:.1f}}<extra>{label(strategy)}</extra>",
                    row=row,
                    col=column,
                )
                shown.add(strategy)
            figure.update_xaxes(
                type="log" if name in ("lr", "weight_decay") else "linear",
                title_text=name if row == len(questions) else "",
                exponentformat="power",
                dtick=1 if name in ("lr", "weight_decay") else None,
                row=row,
                col=column,
            )
        figure.update_yaxes(title_text="val macro-F1", row=row, col=1)
    return styled(figure, height=140 + 230 * len(questions))
