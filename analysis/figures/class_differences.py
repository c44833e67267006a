"""Which classes gain: F1 of each class, the best strategy against each other one."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.confusion import totals
from analysis.frames import Frames
from analysis.theme import colour, empty, facets, label, named, styled, symbol
from analysis.verdict import Findings
from study.metrics import class_scores

TITLE = "F1 by class"
NOTE = "On test, confusion summed over seeds. In brackets: test images of the class per run; few images make F1 noise."


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    rows = []
    for (question, strategy), (total, classes) in totals(frames, findings).items():
        scores = class_scores(total)
        runs = max(
            int(findings.strategies[(findings.strategies.strategy == strategy) & (findings.strategies.metric == "macro_f1")].seeds.max()), 1
        )
        for k, (name, f1, support) in enumerate(zip(classes, scores.f1, scores.support, strict=True)):
            rows.append(
                {
                    "question": question,
                    "strategy": strategy,
                    "class_index": k,
                    "class": name,
                    "f1": f1 if support else np.nan,
                    "images": support // runs,
                }
            )
    frame = pd.DataFrame(rows)
    if len(frame):
        best = frame.groupby(["question", "class_index"])["f1"].transform("first")
        frame["behind_best_strategy"] = best - frame["f1"]
    return frame


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("Nothing has been confirmed on the test set yet.")
    figure, places = facets(frame.question, height=150 + 26 * int(frame.class_index.max() + 1), horizontal_spacing=0.16)
    for question, (at,) in places.items():
        for strategy, own in frame[frame.question == question].groupby("strategy", sort=False):
            figure.add_scatter(
                x=100 * own.f1,
                y=[f"{label(n)} ({m})" for n, m in zip(own["class"], own.images, strict=True)],
                mode="markers",
                marker={"color": colour(strategy), "symbol": symbol(strategy), "size": 10},
                hovertemplate="%{y}: %{x:.1f}<extra>" + label(strategy) + "</extra>",
                **named(strategy),
                **at,
            )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title_text="F1, points")
    return styled(figure)
