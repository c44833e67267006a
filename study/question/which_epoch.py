"""The epoch that represents a trial: its network is kept and measured, and its scores are the trial's, also for the search and Optuna.

Under `Protocol(keep="last")` it is the last completed one: the learning rate has come down to its end, and no chance with the validation
images chose it. Under "best", as in studies begun before there was a choice, it is the one with the best validation score, the first of
equals. Trials are stopped early by comparing them at equal epochs, whichever epoch is kept.
"""

import math
from collections.abc import Collection, Sequence

from study.question.training_settings import Protocol
from study.records import EpochRecord

IN_WORDS = {"last": "the last epoch", "best": "the epoch that is best on validation"}
"""The epoch that a protocol's `keep` keeps, in words."""


def kept_epoch(protocol: Protocol, epochs: Sequence[EpochRecord]) -> EpochRecord | None:
    """Return the epoch of `epochs`, all that the trial completed, that represents it; None where there is none."""
    if protocol.keep == "last":
        return max(epochs, key=lambda e: e.epoch, default=None)
    return max(epochs, key=lambda e: (e.objective, -e.epoch), default=None)


def may_be_kept(protocol: Protocol, epoch: int, objective: float, earlier: Sequence[EpochRecord], stops: Collection[int]) -> bool:
    """Return True where `epoch`, just completed after `earlier`, may turn out to be the kept one: it is evaluated and its network
    written.

    `stops`: the epochs after which the trial may be stopped early.
    """
    if protocol.keep == "last":
        return epoch == protocol.max_epochs or epoch in stops
    return not earlier or objective > max((e.objective for e in earlier), default=-math.inf)
