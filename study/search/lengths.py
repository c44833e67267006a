"""How long the network is trained that is handed over: what may be tried, and which length is taken. Arithmetic alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

FACTORS = (1, 3, 10)
"""Of the confirm runs' epochs."""
RUNS = 2
"""Fresh seeds a length: one run alone says nothing of chance."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A length, and the validation macro-F1 of each of its runs at the last epoch."""

    epochs: int
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.scores)


def choose(tried: Sequence[Tried]) -> Tried:
    """The longest that pays: from the shortest on, a longer one is taken unless it is lower by more than one standard error."""
    ordered = sorted(tried, key=lambda t: t.epochs)
    taken = ordered[0]
    for longer in ordered[1:]:
        taken = taken if is_lower(longer, taken) else longer
    return taken


def is_lower(longer: Tried, shorter: Tried) -> bool:
    """Whether `longer` did worse by more than one standard error of the difference."""
    return longer.mean < shorter.mean - standard_error(longer, shorter)


def standard_error(a: Tried, b: Tried) -> float:
    """Of the difference of two means, by the spread of the runs that both lengths share; 0 where no length has two runs."""
    freedom = len(a.scores) + len(b.scores) - 2
    if freedom < 1:
        return 0.0
    squares = sum((score - t.mean) ** 2 for t in (a, b) for score in t.scores)
    return math.sqrt(squares / freedom * (1 / len(a.scores) + 1 / len(b.scores)))


def price(lengths: Sequence[int], to_train: Mapping[int, int], epoch_seconds: float, share: float) -> float:
    """Seconds, at most: `to_train` runs of each length, and a refit of the longest on `share` times as many images."""
    return epoch_seconds * (sum(to_train[n] * n for n in lengths) + share * max(lengths))


def affordable(lengths: Sequence[int], to_train: Mapping[int, int], epoch_seconds: float, share: float, seconds: float) -> tuple[int, ...]:
    """The lengths, from the shortest on, that can be tried and refitted in so many seconds; none where not even the shortest can."""
    ordered = sorted(lengths)
    fitting = [k for k in range(1, len(ordered) + 1) if price(ordered[:k], to_train, epoch_seconds, share) <= seconds]
    return tuple(ordered[: max(fitting, default=0)])
