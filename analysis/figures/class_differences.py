"""Which classes gain: F1 of each class, the best strategy against each other one."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.confusion import totals
from analysis.load import Frames
from analysis.theme import colour, empty, label, styled, symbol
from analysis.verdict import Findings

TITLE = "F1 by class"
NOTE = "On test, confusion summed over seeds. In brackets: test images of the class per run; few images make F1 noise."


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    rows = []
    for (question, strategy), (total, classes) in totals(frames, findings).items():
        hits, truth, said = np.diag(total), total.sum(axis=1), total.sum(axis=0)
        runs = max(
            int(findings.strategies[(findings.strategies.strategy == strategy) & (findings.strategies.metric == "macro_f1")].seeds.max()), 1
        )
        for k, name in enumerate(classes):
            f1 = 2 * hits[k] / (truth[k] + said[k]) if truth[k] else np.nan
            rows.append(
                {"question": question, "strategy": strategy, "class_index": k, "class": name, "f1": f1, "images": int(truth[k] / runs)}
            )
    frame = pd.DataFrame(rows)
    if len(frame):
        best = frame.groupby(["question", "class_index"])["f1"].transform("first")
        frame["behind_best_strategy"] = best - frame["f1"]
    return frame


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("Nothing has been confirmed on the test set yet.")
    questions = list(dict.fromkeys(frame.question))
    figure = make_subplots(rows=1, cols=len(questions), subplot_titles=[label(q) for q in questions], horizontal_spacing=0.16)
    shown: set[str] = set()
    for column, question in enumerate(questions, 1):
        block = frame[frame.question == question]
        for strategy in dict.fromkeys(block.strategy):
            own = block[block.strategy == strategy]
            names = [f"{label(n)} ({m})" for n, m in zip(own["class"], own.images, strict=True)]
            figure.add_scatter(
                x=100 * own.f1,
                y=names,
                mode="markers",
                marker={"color": colour(strategy), "symbol": symbol(strategy), "size": 10},
                name=label(strategy),
                legendgroup=strategy,
                showlegend=strategy not in shown,
                hovertemplate="%{y}: %{x:.1f}<extra>" + label(strategy) + "</extra>",
                row=1,
                col=column,
            )
            shown.add(strategy)
        figure.update_yaxes(autorange="reversed", row=1, col=column)
    figure.update_xaxes(title_text="F1, points")
    return styled(figure, height=150 + 26 * int(frame.class_index.max() + 1))
