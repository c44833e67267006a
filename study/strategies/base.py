"""The interface of a fine-tuning strategy: its tuned fields, and the phases of training they stand for."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from study.bounds import check_fields
from study.strategies.slots import ALL_KINDS, Kind, Slot, Start


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Some epochs during which one set of parameters is trained.

    `lrs[0]` is the head's learning rate, `lrs[k]` that of stage k counted from the head; None = frozen.
    """

    epochs: int
    lrs: tuple[float | None, ...]
    kinds: frozenset[Kind | Literal["shift"]] = ALL_KINDS  # below the head: what of a trained stage moves; "shift": biases, of norms too
    pull: float = 0.0  # below the head: strength of the pull back to where training began (L2-SP, Li et al. 2018, arXiv 1802.01483)
    rank: int = 0  # > 0, below the head: linear and 1x1 convolutional weights alone move, by a product of two factors of this rank (LoRA)
    freeze_statistics: bool = False  # batch norm in eval mode though its scales and shifts are trained, whatever the protocol says
    fresh_head: bool = False  # the head begins as it was drawn for the trial, not as the phase before left it
    balanced: bool = False  # every class is shown equally often; a pass stays as long as it was

    @property
    def cut(self) -> int:
        """Return the deepest trained stage: everything below it needs no gradient and can be computed once."""
        return max(k for k, lr in enumerate(self.lrs) if lr is not None)

    def moves(self, slot: Slot) -> bool:
        """Return True where the parameter is trained: its stage is, and below the head its kind is one of `kinds`, or it takes factors."""
        if self.lrs[slot.stage] is None:
            return False
        if self.rank and slot.stage > 0:
            return slot.matrix is not None
        return slot.stage == 0 or slot.kind in self.kinds or ("shift" in self.kinds and slot.shift)

    def size(self, slots: Iterable[Slot]) -> int:
        """Return the number of trained numbers; for a weight that takes factors, those of its factors."""
        moving = [s for s in slots if self.moves(s)]
        return sum(self.rank * sum(s.matrix) if self.rank and s.stage and s.matrix else s.size for s in moving)


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """Base of the strategies; each is one small file, listed on the contents page (`__init__`)."""

    name: ClassVar[str]
    title: ClassVar[str]  # what moves, in a few words
    source: ClassVar[str] = ""  # whose it is, where it was published
    start: ClassVar[Start] = "pretrained"  # "random": nothing is reused; the strategy's name is part of a trial's id
    control_of: ClassVar[str] = ""  # the strategy that does the same from the pretrained weights, with fields of the same names
    exact: ClassVar[bool] = False  # solved, not trained: nothing is searched, no seed decides, one run is all runs
    yardstick: ClassVar[bool] = False  # stands beside the others in tables and figures, and takes part in no verdict

    def __post_init__(self) -> None:
        """Check that every number is within its bounds (study/bounds.py). Raises ConfigError."""
        check_fields(self)

    @abstractmethod
    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        """Return the phases for a network of `stages` stages below its head; their epochs sum to `epochs`."""
