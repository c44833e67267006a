"""What a fine-tuning strategy is: its tuned fields, and the phases of training they stand for."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from study.networks.slots import ALL_KINDS, Kind, Slot, Start


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Some epochs during which one set of parameters is trained.

    `lrs[0]` is the head's learning rate, `lrs[k]` that of stage k counted from the head; None = frozen.
    """

    epochs: int
    lrs: tuple[float | None, ...]
    kinds: frozenset[Kind] = ALL_KINDS  # below the head: what of a trained stage moves
    pull: float = 0.0  # below the head: strength of the pull back to where training began (L2-SP, Li et al. 2018, arXiv 1802.01483)

    @property
    def cut(self) -> int:
        """The deepest trained stage: everything below it needs no gradient and can be computed once."""
        return max(k for k, lr in enumerate(self.lrs) if lr is not None)

    def moves(self, slot: Slot) -> bool:
        """Whether the parameter is trained: its stage is, and below the head its kind is one of `kinds`."""
        return self.lrs[slot.stage] is not None and (slot.stage == 0 or slot.kind in self.kinds)


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """Abstract; every subclass is final, one small file each, listed on the contents page (`__init__`)."""

    name: ClassVar[str]
    title: ClassVar[str]
    start: ClassVar[Start] = "pretrained"  # "random": nothing is reused; the strategy's name is part of a trial's id
    control_of: ClassVar[str] = ""  # the strategy that does the same from the pretrained weights, with fields of the same names

    @abstractmethod
    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        """The phases for a network of `stages` stages below its head; their epochs sum to `epochs`."""


def check_lr(lr: float) -> None:
    """Shared by every strategy's __post_init__: a learning rate must be a finite number >= 0."""
    if not (isinstance(lr, float | int) and not isinstance(lr, bool) and 0 <= lr < math.inf):
        raise ValueError(f"lr must be a finite number >= 0, not {lr!r}.")
