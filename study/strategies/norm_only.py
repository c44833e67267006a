"""Norms only: scales and shifts of normalisation layers, and the head (Frankle et al. 2021)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Log
from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class NormOnly(Strategy):
    name: ClassVar[str] = "norm_only"
    title: ClassVar[str] = "norms + head"
    source: ClassVar[str] = "Frankle et al. 2021, arXiv 2003.00152"

    lr: Annotated[float, Log(1e-4, 1e-1)] = 3e-3

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs=epochs, lrs=(self.lr,) * (stages + 1), kinds=frozenset({"norm"})),)
