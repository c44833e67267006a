"""What tuned features are good for, on their own task and on foreign ones, against the pretrained features."""

import pandas as pd
import plotly.graph_objects as go

from analysis.frames import Frames
from analysis.question import Question
from analysis.theme import colour, empty, facets, label, named, not_measured, styled, symbol
from analysis.verdict import Findings

TITLE = "A linear probe on the tuned features against one on the pretrained ones"
NOTE = (
    "Accuracy of a logistic regression on the features that the head is given, minus that on the pretrained features, validation images. Large marks: "
    "mean over runs; small: each run. Own task: left of zero the features were corrupted, right of it adapted. Foreign tasks: left of zero, generality was lost."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """One row a run and task: gain in accuracy, shares."""
    found, runs = frames.measured("reprobe"), frames.confirmed()
    if not len(found) or not len(runs):
        return pd.DataFrame()
    runs = runs.assign(question=frames.questions(runs))[["trial_id", "question", "strategy", "seed"]]
    merged = found.merge(runs, on="trial_id")
    return merged.assign(gain=merged.accuracy - merged.accuracy_before)[
        ["question", "strategy", "seed", "task", "foreign", "gain", "accuracy_before"]
    ]


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty(not_measured("reprobe"))
    tasks = int(frame.groupby("question").task.nunique().max())
    strategies = list(dict.fromkeys(frame.strategy))
    figure, places = facets(frame.question, height=190 + 26 * tasks * len(strategies), horizontal_spacing=0.2)
    for question, (at,) in places.items():
        block = frame[frame.question == question]
        names = list(dict.fromkeys(block.sort_values("foreign", kind="stable").task))
        for k, strategy in enumerate(strategies):
            own = block[block.strategy == strategy]
            height = [names.index(t) + 0.7 * ((k + 0.5) / len(strategies) - 0.5) for t in own.task]
            own = own.assign(height=height)
            figure.add_scatter(
                x=100 * own.gain, y=own.height, mode="markers", marker={"color": colour(strategy), "symbol": symbol(strategy), "size": 6, "opacity": 0.5},
                showlegend=False, legendgroup=strategy, hovertemplate="%{x:+.1f} points<extra>" + label(strategy) + "</extra>", **at,
            )  # fmt: skip
            mean = own.groupby("task", sort=False)[["gain", "height"]].mean()
            figure.add_scatter(
                x=100 * mean.gain, y=mean.height, mode="markers", marker={"color": colour(strategy), "symbol": symbol(strategy), "size": 13},
                hovertemplate="mean %{x:+.1f} points<extra>" + label(strategy) + "</extra>", **named(strategy), **at,
            )  # fmt: skip
        ticks = [_task(t, block) for t in names]
        figure.update_yaxes(tickvals=list(range(len(names))), ticktext=ticks, range=[len(names) - 0.5, -0.5], zeroline=False, **at)
        figure.update_xaxes(title_text="points of accuracy gained", zeroline=True, zerolinewidth=2, **at)
    return styled(figure)


def _task(name: str, block: pd.DataFrame) -> str:
    shown = Question(dataset=name.partition("@")[0], splits="official", backbone="", train_fraction=1).lines[0]
    before = block[block.task == name].accuracy_before.mean()
    kind = "foreign" if bool(block[block.task == name].foreign.iloc[0]) else "own"
    return f"{label(shown)}<br>({kind}; pretrained {100 * before:.0f} %)"
