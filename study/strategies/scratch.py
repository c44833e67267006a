"""Everything from random weights: the control that reuses nothing (Neyshabur et al. 2020, arXiv 2008.11687)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Log
from study.strategies.base import Phase, Strategy
from study.strategies.slots import Start


@dataclass(frozen=True, kw_only=True)
class Scratch(Strategy):
    name: ClassVar[str] = "scratch"
    title: ClassVar[str] = "everything, from random weights"
    source: ClassVar[str] = "Neyshabur et al. 2020, arXiv 2008.11687"
    start: ClassVar[Start] = "random"
    control_of: ClassVar[str] = "full"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs=epochs, lrs=(self.lr,) * (stages + 1)),)
