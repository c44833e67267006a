"""LoRA: weights of linear and 1x1 convolutional layers move by a product of two thin factors; the rest below the head stays (Hu et al.
2022)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Integer, Log, Uniform
from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class LoRA(Strategy):
    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "low-rank updates + head"
    source: ClassVar[str] = "Hu et al. 2022, arXiv 2106.09685"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3
    rank: Annotated[int, Integer(2, 16)] = 8
    reach: Annotated[float, Uniform(0.25, 1.0)] = 1.0  # share of the stages, from the head, whose weights take factors

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        depth = max(round(self.reach * stages), 1)
        return (Phase(epochs=epochs, lrs=(self.lr,) * (depth + 1) + (None,) * (stages - depth), rank=self.rank),)
