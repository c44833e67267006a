"""Gains by class: F1 of each class, the best strategy minus each other one, with intervals."""

import math

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.page.by_class import by_question, differences, f1_runs
from analysis.page.theme import GREY, colour, empty, facets, label, named, styled, symbol
from analysis.verdict import Findings

TITLE = "Which classes differ between strategies?"
NOTE = (
    "F1 of the strategy with the highest mean, minus F1 of another strategy. Bars are 95 % intervals over runs and test "
    "images, as in the verdict. Grey: the interval contains zero. Intervals are not adjusted for their number, so about one "
    "of twenty is coloured by chance. In brackets: test images of the class, and the F1 of the strategy with the highest mean."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per class and strategy other than the best."""
    rows = []
    for own in by_question(frames, findings):
        best, *others = own.ranked
        mine = f1_runs(own, best) if others else {}
        for other in others:
            theirs = f1_runs(own, other)
            for k, d in differences(mine, theirs).items():
                rows.append(
                    {
                        "question": own.question,
                        "best": best,
                        "strategy": other,
                        "class_index": k,
                        "class": own.names[k],
                        "images": int(own.images[k]),
                        "f1_best": float(mine[k].scores.mean()),
                        "f1": float(theirs[k].scores.mean()),
                        "difference": d.mean,
                        "low": d.low,
                        "high": d.high,
                        "seen": d.seen,
                    }
                )
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("No two strategies have been confirmed on the same data.")
    most = int(frame.groupby("question").strategy.nunique().max())
    height = 150 + (18 + 12 * most) * int(frame.class_index.max() + 1)
    figure, places = facets(frame.question, height=height, horizontal_spacing=0.16)
    for question, (at,) in places.items():
        block = frame[frame.question == question]
        best, others = block.best.iloc[0], list(dict.fromkeys(block.strategy))
        for k, strategy in enumerate(others):
            own = block[block.strategy == strategy]
            figure.add_scatter(
                x=[None], y=[None], mode="markers", marker={"color": colour(strategy), "symbol": symbol(strategy), "size": 9},
                **named(strategy), **at,
            )  # fmt: skip
            for seen, part in own.groupby("seen"):
                _draw(figure, part, (k + 0.5) / len(others) - 0.5, colour(strategy) if seen else GREY, at)
        shown = block.drop_duplicates("class_index")
        figure.update_yaxes(
            tickvals=shown.class_index,
            ticktext=[f"{label(r['class'])} ({r['images']}; {100 * r['f1_best']:.0f})" for r in shown.to_dict("records")],
            range=[block.class_index.max() + 0.6, -0.6],
            zeroline=False,
            **at,
        )
        other = label(others[0]) if len(others) == 1 else "the other"
        figure.update_xaxes(title_text=f"points of F1<br>← {other} better · {label(best)} better →", **at)
    return styled(figure)


def _draw(figure: go.Figure, own: pd.DataFrame, offset: float, tint: str, at: dict[str, int]) -> None:
    strategy, best = label(own.strategy.iloc[0]), label(own.best.iloc[0])
    beyond = [[0.0 if math.isnan(w) else 100 * w for w in side] for side in (own.high - own.difference, own.difference - own.low)]
    shown = own[["class", "f1_best", "f1", "low", "high"]].assign(**{"class": own["class"].map(label)})
    shown.iloc[:, 1:] *= 100
    figure.add_scatter(
        x=100 * own.difference,
        y=own.class_index + 0.8 * offset,
        mode="markers",
        marker={"color": tint, "symbol": symbol(own.strategy.iloc[0]), "size": 9},
        error_x={"type": "data", "symmetric": False, "array": beyond[0], "arrayminus": beyond[1], "thickness": 2, "color": tint},
        customdata=shown,
        hovertemplate=f"%{{customdata[0]}}: {best} %{{customdata[1]:.1f}}, {strategy} %{{customdata[2]:.1f}}<br>"
        f"{best} minus {strategy} %{{x:+.1f}} [%{{customdata[3]:+.1f}}, %{{customdata[4]:+.1f}}]<extra></extra>",
        legendgroup=own.strategy.iloc[0],
        showlegend=False,
        **at,
    )
