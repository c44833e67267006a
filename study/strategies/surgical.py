"""Surgical fine-tuning: one block of four and the head; the rest stays as pretrained. The search chooses the block (Lee et al. 2023)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Integer, Log
from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class Surgical(Strategy):
    name: ClassVar[str] = "surgical"
    title: ClassVar[str] = "one block + head"
    source: ClassVar[str] = "Lee et al. 2023, arXiv 2210.11466"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3
    block: Annotated[int, Integer(1, 4)] = 4  # a quarter of the stages from the head; 4, with the stem, is the paper's first block

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        above = (self.block - 1) * stages // 4
        below = max(self.block * stages // 4, above + 1)  # of a network with fewer than four stages, some are in two blocks
        lrs = (self.lr, *(self.lr if above < k <= below else None for k in range(1, stages + 1)))
        return (Phase(epochs=epochs, lrs=lrs),)
