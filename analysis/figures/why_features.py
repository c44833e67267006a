"""Similarity of tuned to pretrained features, stage by stage, beside the references that such a figure needs."""

from itertools import combinations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.page.theme import colour, empty, facets, label, named, not_measured, styled, symbol
from analysis.verdict import Findings
from study.metrics import unbiased_cka

TITLE = "What is left of the pretrained features?"
NOTE = (
    "Centred kernel alignment (linear, unbiased) of each stage's features with the pretrained ones, on validation images. 1 "
    "means the same up to rotation and scale, so frozen stages are at 1. Marks are means over runs. Bars reach from the "
    "lowest to the highest run. Dotted: two seeds of one strategy, which shows what chance alone changes. Grey: a network "
    "with random weights, which shows what no alignment is."
)


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return rows of kind "start" (by run), "seeds" (mean over pairs of runs) and "random"."""
    merged = frames.measured_runs("cka")
    if not len(merged):
        return merged
    rows = []
    for (question, strategy, stage), own in merged.groupby(["question", "strategy", "stage"], sort=False):
        at = {"question": question, "strategy": strategy, "stage": int(stage)}
        rows += [{**at, "kind": "start", "value": v} for v in own.cka.dropna()]
        rows += [{**at, "kind": "random", "value": v} for v in own.cka_random.dropna()[:1]]
        pairs = [unbiased_cka(_kernel(a), _kernel(b)) for a, b in combinations(own.kernel, 2) if len(a) == len(b)]
        rows += [{**at, "kind": "seeds", "value": float(np.nanmean(pairs))}] if pairs else []
    return pd.DataFrame(rows)


def _kernel(half: np.ndarray) -> np.ndarray:
    """Return the kernel [n, n] from its upper triangle. The diagonal plays no part in the unbiased estimate."""
    n = round((1 + (1 + 8 * len(half)) ** 0.5) / 2)
    full = np.zeros((n, n))
    full[np.triu_indices(n, 1)] = half
    return full + full.T


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty(not_measured("cka"))
    figure, places = facets(frame.question, height=400)
    for question, (at,) in places.items():
        block = frame[frame.question == question]
        random = block[block.kind == "random"].groupby("stage").value.first().sort_index(ascending=False)
        figure.add_scatter(
            x=random.index, y=random, mode="lines", fill="tozeroy", fillcolor="rgba(128,128,128,.16)",
            line={"color": "rgba(128,128,128,.6)", "width": 1}, name="random weights", legendgroup="random weights",
            hovertemplate="stage %{x}: %{y:.2f}<extra>random weights</extra>", **at,
        )  # fmt: skip
        for strategy, own in block.groupby("strategy", sort=False):
            by = own[own.kind == "start"].groupby("stage").value.agg(["mean", "min", "max"]).sort_index(ascending=False)
            figure.add_scatter(
                x=by.index,
                y=by["mean"],
                mode="lines+markers",
                line={"color": colour(strategy), "width": 2.5},
                marker={"symbol": symbol(strategy), "size": 8},
                error_y={"type": "data", "symmetric": False, "array": by["max"] - by["mean"], "arrayminus": by["mean"] - by["min"]},
                hovertemplate="stage %{x}: %{y:.2f}<extra>" + label(strategy) + "</extra>",
                **named(strategy),
                **at,
            )
            seeds = own[own.kind == "seeds"].set_index("stage").value.sort_index(ascending=False)
            figure.add_scatter(
                x=seeds.index, y=seeds, mode="lines", line={"color": colour(strategy), "dash": "dot", "width": 1.5}, showlegend=False,
                hovertemplate="stage %{x}: %{y:.2f}<extra>" + label(strategy) + ", two seeds</extra>", legendgroup=strategy, **at,
            )  # fmt: skip
        figure.update_xaxes(autorange="reversed", dtick=1, title_text="stage, the last before the head is 1", **at)
    figure.update_yaxes(range=[-0.05, 1.05])
    figure.update_yaxes(title_text="alignment with the pretrained features", col=1)
    return styled(figure)
