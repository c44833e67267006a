"""The tuning curves against compute, where a cheap strategy gets more trials for the same seconds."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.figures import tuning_curves
from analysis.verdict import Findings

TITLE = "What would more compute bring?"
NOTE = (
    "The same curves, with trials priced at their mean seconds. Where stored activations are reused, the first trials paid "
    "for the later ones."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    frame = tuning_curves.compute(frames, findings)
    return frame.assign(seconds=frame.trials * frame.seconds_each) if len(frame) else frame


def draw(frame: pd.DataFrame) -> go.Figure:
    figure = tuning_curves.draw_against(frame, "seconds", "seconds of training (log)")
    if len(frame):
        figure.update_xaxes(type="log")
    return figure
