"""How long the network is trained that is handed over: what may be tried, and which length is taken. Arithmetic alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

FACTORS = (1, 3, 10)
"""Of the confirm runs' epochs."""
RUNS = 2
"""Seeds a length, the same at every length, so that lengths pair up: one run alone says nothing of chance."""


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
    """The longest that pays: the longest that is lower than no shorter one by more than one standard error."""
    ordered = sorted(tried, key=lambda t: t.epochs)
    return next(t for k, t in reversed([*enumerate(ordered)]) if not any(is_lower(t, shorter) for shorter in ordered[:k]))


def is_lower(longer: Tried, shorter: Tried) -> bool:
    """Whether `longer` did worse by more than one standard error of the difference. Of two seeds that both have: whether both did worse."""
    difference, error = compare(longer, shorter)
    return difference < -error


def compare(a: Tried, b: Tried) -> tuple[float, float]:
    """(mean of `a` minus `b`, its standard error): over the seeds that both have, where there are two; else by the spread of all runs, which
    is 0 where neither has two."""
    of_b = dict(zip(b.seeds, b.scores, strict=False))
    pairs = [score - of_b[seed] for seed, score in zip(a.seeds, a.scores, strict=False) if seed in of_b]
    if len(pairs) > 1:
        return fmean(pairs), stdev(pairs) / math.sqrt(len(pairs))
    freedom = len(a.scores) + len(b.scores) - 2
    squares = sum((score - t.mean) ** 2 for t in (a, b) for score in t.scores)
    return a.mean - b.mean, math.sqrt(squares / max(freedom, 1) * (1 / len(a.scores) + 1 / len(b.scores)))


def price(lengths: Sequence[int], to_train: Mapping[int, int], epoch_seconds: float, share: float) -> float:
    """Seconds, at most: `to_train` runs of each length, and a refit of the longest on `share` times as many images."""
    return epoch_seconds * (sum(to_train[n] * n for n in lengths) + share * max(lengths))


def affordable(lengths: Sequence[int], to_train: Mapping[int, int], epoch_seconds: float, share: float, seconds: float) -> tuple[int, ...]:
    """The lengths, from the shortest on, that can be tried and refitted in so many seconds; none where not even the shortest can."""
    ordered = sorted(lengths)
    fitting = [k for k in range(1, len(ordered) + 1) if price(ordered[:k], to_train, epoch_seconds, share) <= seconds]
    return tuple(ordered[: max(fitting, default=0)])
