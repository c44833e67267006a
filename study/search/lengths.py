"""The training length of the delivered network: the lengths to try and the choice among them. This is arithmetic alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

FACTORS = (1, 3, 10)
"""Multiples of the confirm runs' epochs."""
RUNS = 2
"""Seeds for each length, the same at every length, so that lengths pair up: a single run would not show the effect of chance."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A length, and the validation macro-F1 of each of its runs at the last epoch; `seeds` of the runs, where they are known."""

    epochs: int
    scores: tuple[float, ...]
    seeds: tuple[int, ...] = ()

    @property
    def mean(self) -> float:
        return fmean(self.scores)


def choose(tried: Sequence[Tried]) -> Tried:
    """Return the longest length that pays: the longest that is lower than no shorter one by more than one standard error."""
    ordered = sorted(tried, key=lambda t: t.epochs)
    return next(t for k, t in reversed([*enumerate(ordered)]) if not any(is_lower(t, shorter) for shorter in ordered[:k]))


def is_lower(longer: Tried, shorter: Tried) -> bool:
    """Return True where `longer` did worse by more than one standard error of the difference. For two common seeds: where both did
    worse."""
    difference, error = compare(longer, shorter)
    return difference < -error


def compare(a: Tried, b: Tried) -> tuple[float, float]:
    """Return (mean of `a` minus `b`, its standard error).

    The error is over the seeds that both have, where there are two; else it comes from the spread of all runs, and is 0 where neither has
    two.
    """
    of_b = dict(zip(b.seeds, b.scores, strict=False))
    pairs = [score - of_b[seed] for seed, score in zip(a.seeds, a.scores, strict=False) if seed in of_b]
    if len(pairs) > 1:
        return fmean(pairs), stdev(pairs) / math.sqrt(len(pairs))
    freedom = len(a.scores) + len(b.scores) - 2
    squares = sum((score - t.mean) ** 2 for t in (a, b) for score in t.scores)
    return a.mean - b.mean, math.sqrt(squares / max(freedom, 1) * (1 / len(a.scores) + 1 / len(b.scores)))


def price(lengths: Sequence[int], to_train: Mapping[int, int], epoch_seconds: float, share: float) -> float:
    """Return the highest cost in seconds: `to_train` runs of each length, and a refit of the longest on `share` times as many images."""
    return epoch_seconds * (sum(to_train[n] * n for n in lengths) + share * max(lengths))


def affordable(lengths: Sequence[int], to_train: Mapping[int, int], epoch_seconds: float, share: float, seconds: float) -> tuple[int, ...]:
    """Return the lengths, from the shortest on, that can be tried and refitted in so many seconds; none where not even the shortest
    can."""
    ordered = sorted(lengths)
    fitting = [k for k in range(1, len(ordered) + 1) if price(ordered[:k], to_train, epoch_seconds, share) <= seconds]
    return tuple(ordered[: max(fitting, default=0)])
