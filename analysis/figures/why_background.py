"""Accuracy with changed backgrounds: does a network answer by the subject or by its background?"""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.page.theme import empty, facets, label, not_measured, strips, styled
from analysis.verdict import Findings

TITLE = "Does the network look at the background?"
NOTE = (
    "Accuracy on the same validation images, with the subject or the background changed. The subject is what stands out by "
    "its green. Only images whose class shows a subject are used. Large marks: means over runs. Small marks: single runs. "
    "What is lost from the fourth line to the fifth was known from the background alone."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per run and change, with accuracy as a share."""
    found = frames.measured_runs("background")
    return found[["question", "strategy", "seed", "change", "images", "accuracy"]] if len(found) else found


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty(not_measured("background"))
    changes = list(dict.fromkeys(frame.change))
    strategies = list(dict.fromkeys(frame.strategy))
    figure, places = facets(frame.question, height=170 + 22 * len(changes) * len(strategies), horizontal_spacing=0.2)
    for question, (at,) in places.items():
        rows = frame[frame.question == question]
        strips(figure, rows, line="change", value="accuracy", lines=changes, order=strategies, shown="%{x:.1f} %", at=at)
        ticks = [label(c).replace("background of", "background<br>of") for c in changes]
        figure.update_yaxes(tickvals=list(range(len(changes))), ticktext=ticks, range=[len(changes) - 0.5, -0.5], zeroline=False, **at)
    figure.update_xaxes(title_text="accuracy, %", rangemode="tozero")
    return styled(figure)
