"""Linear probes on tuned features, for their own task and for foreign ones, compared with pretrained features."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.page.theme import empty, facets, label, not_measured, strips, styled
from analysis.verdict import Findings
from study.question.naming import DataName

TITLE = "Are the tuned features better than the pretrained ones?"
NOTE = (
    "Accuracy of a logistic regression on the tuned features, minus accuracy on the pretrained ones, on validation images. "
    "Large marks: means over runs. Small marks: single runs. Own task: left of zero the features were damaged, right of it "
    "adapted. Other tasks: left of zero, generality was lost."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per run and task: the gain in accuracy as a share."""
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
