"""What tuned features are good for, on their own task and on foreign ones, against the pretrained features."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.page.theme import empty, facets, label, not_measured, strips, styled
from analysis.verdict import Findings
from study.question.naming import DataName

TITLE = "A linear probe on the tuned features against one on the pretrained ones"
NOTE = (
    "Accuracy of a logistic regression on the features that the head is given, minus that on the pretrained features, validation images. Large marks: "
    "mean over runs; small: each run. Own task: left of zero the features were corrupted, right of it adapted. Foreign tasks: left of zero, generality was lost."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """One row a run and task: gain in accuracy, shares."""
    found = frames.measured_runs("reprobe")
    if not len(found):
        return found
    gained = found.assign(gain=found.accuracy - found.accuracy_before)
    return gained[["question", "strategy", "seed", "task", "foreign", "gain", "accuracy_before"]]


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty(not_measured("reprobe"))
    tasks = int(frame.groupby("question").task.nunique().max())
    strategies = list(dict.fromkeys(frame.strategy))
    figure, places = facets(frame.question, height=190 + 26 * tasks * len(strategies), horizontal_spacing=0.2)
    for question, (at,) in places.items():
        block = frame[frame.question == question]
        names = list(dict.fromkeys(block.sort_values("foreign", kind="stable").task))
        strips(figure, block, line="task", value="gain", lines=names, order=strategies, shown="%{x:+.1f} points", at=at)
        ticks = [_task(t, block) for t in names]
        figure.update_yaxes(tickvals=list(range(len(names))), ticktext=ticks, range=[len(names) - 0.5, -0.5], zeroline=False, **at)
        figure.update_xaxes(title_text="points of accuracy gained", zeroline=True, zerolinewidth=2, **at)
    return styled(figure)


def _task(name: str, block: pd.DataFrame) -> str:
    before = block[block.task == name].accuracy_before.mean()
    kind = "foreign" if bool(block[block.task == name].foreign.iloc[0]) else "own"
    return f"{label(DataName.parse(name).short)}<br>({kind}; pretrained {100 * before:.0f} %)"
