"""The second view: the score that each strategy's search can be expected to find for the compute that the cheapest search spent.

A search runs its trials in some order. For an expensive strategy, only the untuned default would fit into a small budget. So only the
random trials are used, which are exchangeable: the result is the best score found before the budget is spent, over many orders of them.

A trial costs its image passes times the median seconds of one pass in its cell. The time of a single trial would also show the load of
the machine and which trial filled a cache.
"""

from typing import Any

import numpy as np
import pandas as pd

from analysis.data.frames import Frames
from analysis.data.spent import cost_seconds
from study.scoring.metric import Metric, without_score

ORDERS = 500
BAND = (0.1, 0.9)  # of the orders


def equal_compute(frames: Frames) -> pd.DataFrame:
    """Return one row per question and strategy. The budget is what all random trials of the question's cheapest strategy cost.

    `expected`, `low`, `high` describe the best validation score within that budget: mean and 80 % interval over orders. They are NaN
    where not one trial fits.
    """
    own = frames.random_trials()
    if not len(own):
        return pd.DataFrame()
    paced = ((a, _pace(a)) for _, a in own.groupby("cell", sort=False))
    found = [a.assign(price=a.images * each, seconds_each_image=each) for a, each in paced if each > 0]
    if not found:
        return pd.DataFrame()
    priced = pd.concat(found)
    priced["question"] = frames.questions(priced)
    return pd.DataFrame([row for _, block in priced.groupby("question", sort=False) for row in _question(block, frames.scored_by)])


def _pace(trials: pd.DataFrame) -> float:
    """Return the seconds of one image pass, or NaN where no trial finished an epoch."""
    timed = trials[trials.images > 0]
    return float((cost_seconds(timed) / timed.images).median())


def _question(block: pd.DataFrame, metric: Metric) -> list[dict[str, Any]]:
    budget = float(block.groupby("strategy").price.sum().min())
    rows = []
    for strategy, own in block.groupby("strategy", sort=False):
        scores = without_score(own[metric.recorded].to_numpy(float), metric) if metric.recorded in own else np.zeros(len(own))
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
    """Return two arrays [orders] over random orders of the trials [T]: the best score of the trials that end within the budget (0 for
    none) and the number of those trials.
    """
    rng = np.random.Generator(np.random.Philox(key=[22, 23]))
    order = rng.permuted(np.tile(np.arange(len(scores)), (orders, 1)), axis=1)
    inside = prices[order].cumsum(axis=1) <= budget * (1 + 1e-9)
    best: np.ndarray = np.where(inside, scores[order], 0.0).max(axis=1)
    return best, inside.sum(axis=1)
