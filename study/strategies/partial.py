"""Partial fine-tuning (Strategy A): the last `unfreeze_depth` stages and the head; the rest stays as pretrained."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Integer, Log
from study.strategies.base import Phase, Strategy, check_lr


@dataclass(frozen=True, kw_only=True)
class Partial(Strategy):
    name: ClassVar[str] = "partial"
    title: ClassVar[str] = "A: last stages + head"
    source: ClassVar[str] = "Yosinski et al. 2014, arXiv 1411.1792"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3
    unfreeze_depth: Annotated[int, Integer(1, 4)] = 1

    def __post_init__(self) -> None:
        check_lr(self.lr)
        if not (isinstance(self.unfreeze_depth, int) and self.unfreeze_depth >= 1):
            raise ValueError(f"unfreeze_depth must be a whole number >= 1, not {self.unfreeze_depth!r}.")

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        if self.unfreeze_depth > stages:
            raise ValueError(f"unfreeze_depth {self.unfreeze_depth} is more than this network's {stages} stages.")
        depth = self.unfreeze_depth
        return (Phase(epochs=epochs, lrs=(self.lr,) * (depth + 1) + (None,) * (stages - depth)),)
