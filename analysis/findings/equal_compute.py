"""The second view: what each strategy's search may be expected to find for the compute that the cheapest one spent.

A search runs its trials in some order; for a dear strategy what fits into a small budget would be the untuned default alone. So only
the random trials are used, which are exchangeable: over many orders of them, the best that is found before the budget is spent.
A trial costs its image passes times its cell's median seconds for one: what a single trial took also tells of load and of who filled a cache.
"""

from typing import Any

import numpy as np
import pandas as pd

from analysis.data.frames import Frames
from analysis.data.spent import cost_seconds
from study.records import OBJECTIVE

ORDERS = 500
BAND = (0.1, 0.9)  # of the orders


def equal_compute(frames: Frames) -> pd.DataFrame:
    """One row a question and strategy. The budget: what all random trials of the question's cheapest strategy cost.

    `expected`, `low`, `high`: best validation macro-F1 within it, mean and 80 % of the orders; NaN where not a single trial fits.
    """
    own = frames.random_trials()
    if not len(own):
        return pd.DataFrame()
    found = [a.assign(price=a.images * each, seconds_each_image=each) for _, a in own.groupby("cell", sort=False) if (each := _pace(a)) > 0]
    if not found:
        return pd.DataFrame()
    priced = pd.concat(found)
    priced["question"] = frames.questions(priced)
    return pd.DataFrame([row for _, block in priced.groupby("question", sort=False) for row in _question(block)])


def _pace(trials: pd.DataFrame) -> float:
    """Seconds of one image pass; NaN where no trial came through an epoch."""
    timed = trials[trials.images > 0]
    return float((cost_seconds(timed) / timed.images).median())


def _question(block: pd.DataFrame) -> list[dict[str, Any]]:
    budget = float(block.groupby("strategy").price.sum().min())
    rows = []
    for strategy, own in block.groupby("strategy", sort=False):
        scores = own[OBJECTIVE].fillna(0.0).to_numpy(float) if OBJECTIVE in own else np.zeros(len(own))  # a diverged trial found nothing
        best, within = best_within(scores, own.price.to_numpy(float), budget)
        fits = within.max() > 0
        low, high = np.quantile(best, BAND) if fits else (np.nan, np.nan)
        rows.append(
            {
                "question": own.question.iloc[0].name,
                "strategy": strategy,
                "budget_seconds": budget,
                "trials_within": float(within.mean()),
                "trials": len(own),
                "seconds_each": float(own.price.mean()),
                "milliseconds_each_image": 1000 * float(own.seconds_each_image.iloc[0]),
                "expected": float(best.mean()) if fits else np.nan,
                "low": float(low),
                "high": float(high),
                "best_of_all": float(scores.max()),
            }
        )
    return rows


def best_within(scores: np.ndarray, prices: np.ndarray, budget: float, orders: int = ORDERS) -> tuple[np.ndarray, np.ndarray]:
    """Of trials [T], by random order [orders]: the best score among those that end before the budget is spent (0 for none), and how many do."""
    rng = np.random.Generator(np.random.Philox(key=[22, 23]))
    order = rng.permuted(np.tile(np.arange(len(scores)), (orders, 1)), axis=1)
    inside = prices[order].cumsum(axis=1) <= budget * (1 + 1e-9)
    best: np.ndarray = np.where(inside, scores[order], 0.0).max(axis=1)
    return best, inside.sum(axis=1)
