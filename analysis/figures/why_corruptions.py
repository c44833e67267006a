"""Robustness of networks to images that are worse than those they learnt from."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.page.theme import colour, empty, facets, label, named, not_measured, styled, symbol
from analysis.verdict import Findings

TITLE = "Does the network stand worse images?"
NOTE = (
    "Accuracy on corrupted validation images as a share of the accuracy on clean ones, averaged over three severities. "
    "Marks are means over runs. Bars reach from the lowest to the highest run."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per run and kind, with accuracy relative to clean images."""
    found = frames.measured_runs("corruptions")
    if not len(found):
        return found
    clean = found[found.kind == "clean"].set_index("trial_id").accuracy
    run = ["trial_id", "question", "strategy", "seed"]
    worse = found[found.kind != "clean"].groupby([*run, "kind"], sort=False).accuracy.mean().reset_index()
    worse["relative"] = worse.accuracy / worse.trial_id.map(clean)
    return worse[worse.trial_id.map(clean) > 0][[*run[1:], "kind", "relative"]]


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty(not_measured("corruptions"))
    figure, places = facets(frame.question, height=380)
    for question, (at,) in places.items():
        for strategy, own in frame[frame.question == question].groupby("strategy", sort=False):
            by = own.groupby("kind", sort=False).relative.agg(["mean", "min", "max"])
            figure.add_scatter(
                x=[label(k) for k in by.index],
                y=100 * by["mean"],
                mode="markers",
                marker={"color": colour(strategy), "symbol": symbol(strategy), "size": 11},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": 100 * (by["max"] - by["mean"]),
                    "arrayminus": 100 * (by["mean"] - by["min"]),
                },
                hovertemplate="%{x}: %{y:.0f} % of clean<extra>" + label(strategy) + "</extra>",
                **named(strategy),
                **at,
            )
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text="% of the accuracy on clean images", col=1)
    return styled(figure)
