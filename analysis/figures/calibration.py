"""Reliability of the test probabilities, before and after one temperature fitted on validation."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.page.theme import colour, empty, facets, label, named, not_measured, styled, symbol
from analysis.verdict import Findings

TITLE = "Are its probabilities right?"
NOTE = (
    "Test images are grouped by the network's confidence, over all runs. Each mark compares the share of right answers with "
    "the mean confidence. On the diagonal they agree. Below it the network is over-confident. Faint lines: the network as "
    "it is. Full lines: its logits divided by one temperature, fitted on validation images."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per strategy, kind ("before", "after") and bin: confidence, accuracy and images, with the mean calibration error."""
    found = frames.measured_runs("calibration")
    if not len(found):
        return found
    found = found.assign(kind=np.where(found.groupby("trial_id").cumcount() == 0, "before", "after"))
    rows = []
    for (question, strategy, kind), own in found.groupby(["question", "strategy", "kind"], sort=False):
        images = np.stack(own.bin_images.to_list()).astype(float)
        sums = {k: np.nansum(np.stack(own[f"bin_{k}"].to_list()).astype(float) * images, axis=0) for k in ("confidence", "accuracy")}
        total = images.sum(axis=0)
        for k in np.flatnonzero(total):
            at = {"question": question, "strategy": strategy, "kind": kind, "bin": int(k), "images": int(total[k])}
            rows.append(
                {
                    **at,
                    **{name: float(v[k] / total[k]) for name, v in sums.items()},
                    "ece": float(own.ece.mean()),
                    "temperature": float(own.temperature.mean()),
                }
            )
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty(not_measured("calibration"))
    figure, places = facets(frame.question, height=420)
    for question, (at,) in places.items():
        figure.add_scatter(
            x=[0, 100],
            y=[0, 100],
            mode="lines",
            line={"color": "rgba(128,128,128,.6)", "dash": "dash", "width": 1},
            showlegend=False,
            hoverinfo="skip",
            **at,
        )
        for strategy, own in frame[frame.question == question].groupby("strategy", sort=False):
            for kind, part in own.groupby("kind", sort=False):
                faint = kind == "before"
                figure.add_scatter(
                    x=100 * part.confidence,
                    y=100 * part.accuracy,
                    mode="lines+markers",
                    opacity=0.35 if faint else 1,
                    line={"color": colour(strategy), "width": 1.5 if faint else 2.5},
                    marker={"symbol": symbol(strategy), "size": 5 if faint else 8},
                    customdata=part.images,
                    hovertemplate="confidence %{x:.0f} %: %{y:.0f} % right, %{customdata} images<extra>"
                    + label(f"{strategy}, {kind}")
                    + "</extra>",
                    showlegend=not faint,
                    **named(strategy),
                    **at,
                )
    figure.update_xaxes(title_text="mean confidence, %", range=[0, 100])
    figure.update_yaxes(range=[0, 100])
    figure.update_yaxes(title_text="answered rightly, %", col=1)
    return styled(figure)
