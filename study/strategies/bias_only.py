"""Biases only, those of normalisation layers too, and the head (BitFit; on convolutional networks TinyTL's first step)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Log
from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class BiasOnly(Strategy):
    name: ClassVar[str] = "bias_only"
    title: ClassVar[str] = "biases + head"
    source: ClassVar[str] = "Ben Zaken et al. 2022, arXiv 2106.10199"

    lr: Annotated[float, Log(1e-4, 1e-1)] = 3e-3

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs=epochs, lrs=(self.lr,) * (stages + 1), kinds=frozenset({"shift"})),)
