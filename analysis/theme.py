"""One look for every figure: a colour-blind-safe colour per strategy (Okabe and Ito), readable in print, light and dark."""

import html

import plotly.graph_objects as go

from study.strategies import STRATEGIES

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
ORDER = ("partial", "full", "linear_probe", "layer_decay", "lp_ft")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "cross", "star")


def _place(strategy: str) -> int:
    known = [*ORDER, *(s for s in STRATEGIES if s not in ORDER)]
    return known.index(strategy) if strategy in known else len(known)


def colour(strategy: str) -> str:
    return OKABE_ITO[_place(strategy) % len(OKABE_ITO)]


def symbol(strategy: str) -> str:
    """Shape says the same as colour, for those who print in grey."""
    return SYMBOLS[_place(strategy) % len(SYMBOLS)]


def faded(strategy: str, alpha: float = 0.18) -> str:
    c = colour(strategy).lstrip("#")
    return f"rgba({int(c[:2], 16)},{int(c[2:4], 16)},{int(c[4:], 16)},{alpha})"


def label(text: object) -> str:
    """Names from the data: Plotly reads its texts as HTML."""
    return html.escape(str(text))


def styled(figure: go.Figure, *, height: int = 380) -> go.Figure:
    """Transparent paper and no colour of its own for text: the page sets both, for light and dark."""
    figure.update_layout(
        height=height,
        margin={"l": 70, "r": 20, "t": 64, "b": 60},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
        hoverlabel={"namelength": -1},
        template="none",
    )
    figure.update_xaxes(
        gridcolor="rgba(128,128,128,.22)", zerolinecolor="rgba(128,128,128,.5)", automargin=True, linecolor="rgba(128,128,128,.5)"
    )
    figure.update_yaxes(
        gridcolor="rgba(128,128,128,.22)", zerolinecolor="rgba(128,128,128,.5)", automargin=True, linecolor="rgba(128,128,128,.5)"
    )
    return figure


def empty(reason: str) -> go.Figure:
    """Never an empty figure without a reason on it."""
    figure = styled(go.Figure(), height=160)
    figure.add_annotation(text=label(reason), showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font={"size": 15})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure
