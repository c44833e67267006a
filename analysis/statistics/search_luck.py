"""The luck of one search, estimated at no cost from the trials it ran, where the search was not repeated."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class SearchLuck:
    """The result of drawing as many random trials again from the same ones: how often each would have won, in the order given."""

    chances: np.ndarray  # [T (+ 1 with a default, last)]
    another_wins: float
    likely: tuple[int, ...]  # the fewest trials that hold 90 % of the wins, best first
    gap: float  # highest minus lowest validation score among the likely winners


def search_luck(scores: np.ndarray, default: float | None = None) -> SearchLuck:
    """Estimate the luck from `scores` [T] of a search's RANDOM trials on validation (NaN: no result).

    `default` is the score of the trial that every search begins with. With T draws of T trials, the one of rank j (from 1) is the best
    drawn with chance ((T - j + 1) / T)^T - ((T - j) / T)^T. A default takes the place of all below it. Guided trials depend on the
    others and do not belong here.
    """
    t = len(scores)
    filled = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-filled, kind="stable")
    rank = np.arange(1, t + 1)
    by_rank = ((t - rank + 1) / t) ** t - ((t - rank) / t) ** t
    out = np.zeros(t + (default is not None))
    out[order] = by_rank
    values = filled if default is None else np.append(filled, default)
    if default is not None:
        out[-1] = out[:-1][filled <= default].sum()
        out[:-1][filled <= default] = 0
    winner = int(np.argmax(values))
    ranked = [int(k) for k in np.argsort(-out, kind="stable")]
    enough = int(np.searchsorted(np.cumsum(out[ranked]), 0.9 - 1e-12)) + 1
    likely = tuple(sorted(ranked[:enough], key=lambda k: -values[k]))
    gap = float(values[likely[0]] - values[likely[-1]])
    return SearchLuck(chances=out, another_wins=1 - float(out[winner]), likely=likely, gap=gap)
