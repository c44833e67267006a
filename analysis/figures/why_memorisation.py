"""Wrong labels in training: learnt by heart, or seen through."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.page.theme import colour, empty, facets, label, named, styled, symbol
from analysis.verdict import Findings

TITLE = "Wrong labels: memorised or resisted?"
NOTE = (
    "A fifth of the training images were given wrong labels, the same for every strategy. Full line: the share answered "
    "with the wrong label (memorised). Dotted: the share answered with the true label (resisted). Means over runs, in eval "
    "mode, without augmentation. These runs take no part in the verdict."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per strategy and epoch: memorised and resisted, both shares."""
    runs = frames.explained("memorisation")
    if not len(runs) or "wrong/memorised" not in frames.epochs:
        return pd.DataFrame()
    watched = frames.epochs[["trial_id", "epoch", "wrong/memorised", "wrong/resisted"]].dropna()
    merged = watched.merge(runs[["trial_id", "question", "strategy"]], on="trial_id")
    return merged.groupby(["question", "strategy", "epoch"], sort=False)[["wrong/memorised", "wrong/resisted"]].mean().reset_index()


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty('not trained: a study asks for it with explain=("memorisation",)')
    figure, places = facets(frame.question, height=400)
    for question, (at,) in places.items():
        for strategy, own in frame[frame.question == question].groupby("strategy", sort=False):
            for column, dash, word in (("wrong/memorised", "solid", "memorised"), ("wrong/resisted", "dot", "resisted")):
                figure.add_scatter(
                    x=own.epoch,
                    y=100 * own[column],
                    mode="lines+markers",
                    line={"color": colour(strategy), "dash": dash, "width": 2.5},
                    marker={"symbol": symbol(strategy), "size": 8},
                    showlegend=word == "memorised",
                    hovertemplate=f"epoch %{{x}}: %{{y:.0f}} % {word}<extra>{label(strategy)}</extra>",
                    **named(strategy),
                    **at,
                )
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text="% of the wrongly labelled images", col=1)
    return styled(figure)
