"""Full fine-tuning (Strategy B): every parameter at one learning rate."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Log
from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class Full(Strategy):
    name: ClassVar[str] = "full"
    title: ClassVar[str] = "B: everything"
    source: ClassVar[str] = "Girshick et al. 2014, arXiv 1311.2524"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs=epochs, lrs=(self.lr,) * (stages + 1)),)
