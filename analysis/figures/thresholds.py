"""Two classes: precision and recall over the threshold of the network to use, on its test images, and the threshold that it has."""

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.page.theme import OKABE_ITO, empty, facets, label, styled
from analysis.verdict import Findings
from study.inference.softmax import softmax
from study.scoring.decide import precision_recall

TITLE = "Precision and recall over thresholds"
NOTE = (
    "Of the network to use, on test images. From the threshold on it says the class that is named above. The upright line is "
    "the threshold that "
    "it has: chosen on validation, given by the costs, or 0.5. To find more of the class, take a lower one: recall rises and "
    "precision falls."
)
MOST = 400  # thresholds drawn


def compute(frames: Frames, findings: Findings) -> pd.DataFrame:
    """One row a threshold: precision and recall of `class`, and `used`, the network's own. Empty of more than two classes."""
    parts = []
    for pick in (p for p in findings.picks if p.leads and p.delivered is None):
        test, names = frames.predictions(pick.trial).get("test"), frames.classes.get(pick.cell.id, [])
        if test is None or len(names) != 2:
            continue
        rule = pick.deciding
        at, precision, recall = precision_recall(softmax(test.logits / pick.temperature), test.labels, rule.of)
        own = pd.DataFrame({"threshold": at, "precision": precision, "recall": recall})
        own = own.iloc[:: max(len(own) // MOST, 1)]
        parts.append(own.assign(question=pick.question, of=names[rule.of], used=0.5 if rule.threshold is None else rule.threshold))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def draw(frame: pd.DataFrame) -> go.Figure:
    if not len(frame):
        return empty("Thresholds are of two classes.")
    figure, places = facets(frame.question, height=380)
    for k, (question, (at,)) in enumerate(places.items()):
        own = frame[frame.question == question]
        for name, tint in zip(("precision", "recall"), (OKABE_ITO[5], OKABE_ITO[1]), strict=True):
            figure.add_scatter(
                x=own.threshold,
                y=100 * own[name],
                mode="lines",
                line={"color": tint, "width": 2.5, "dash": "solid" if name == "precision" else "dash"},
                name=name,
                legendgroup=name,
                showlegend=k == 0,
                hovertemplate=f"from %{{x:.2f}} on: {name} %{{y:.1f}} %<extra></extra>",
                **at,
            )
        used = float(own.used.iloc[0])
        figure.add_vline(x=used, line_width=1.5, line_color="rgba(128,128,128,.9)", annotation_text=f"{used:.2f}", **at)
        figure.update_xaxes(title_text=f"threshold of {label(own.of.iloc[0])}", range=[0, 1], **at)
    figure.update_yaxes(title_text="percent", rangemode="tozero", col=1)
    return styled(figure)
