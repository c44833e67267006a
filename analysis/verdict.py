"""From frames to all that a page says: scores by seed, strategies with intervals, pairs with verdicts, sentences, warnings."""

from dataclasses import dataclass

import pandas as pd

from analysis import statistics as st
from analysis.comparisons import Rows, compare_all
from analysis.frames import Frames
from analysis.sentences import Sentence, describe_pair, sentences
from analysis.warnings import warnings


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """Everything the page says, as tables. Scores are shares in [0, 1]; the page shows points."""

    seeds: pd.DataFrame  # one row a confirm run and metric, on test
    strategies: pd.DataFrame  # one row a strategy and metric: mean, low, high
    pairs: pd.DataFrame  # one row a pair: difference, interval, p values, verdict
    sentences: list[Sentence]  # one a question, the answer first
    warnings: list[str]


def findings(frames: Frames, resamples: int = st.RESAMPLES) -> Findings:
    """All comparisons of a study. Tables are empty, never wrong, where nothing was confirmed."""
    tables = compare_all(frames, resamples)
    strategies, pairs = pd.DataFrame(tables.strategies), decide_pairs(tables.pairs, frames.study.margin)
    return Findings(
        seeds=pd.DataFrame(tables.seeds),
        strategies=strategies,
        pairs=pairs,
        sentences=sentences(pairs, strategies, frames),
        warnings=warnings(frames, pairs),
    )


def decide_pairs(rows: Rows, margin: float) -> pd.DataFrame:
    """All pairs of the study are judged together, since Holm's p values know how many there are. `margin`: points of macro-F1."""
    table = pd.DataFrame(rows)
    if len(table):
        table["p_holm"] = st.holm(table["p"])
        verdicts = [st.decide(i, p, margin / 100) for i, p in zip(table.pop("interval"), table["p_holm"], strict=True)]
        table["verdict"] = [v.kind for v in verdicts]
        table["more_seeds"] = [v.more_seeds for v in verdicts]
        table["text"] = [describe_pair(row, margin) for row in table.to_dict("records")]
    return table
