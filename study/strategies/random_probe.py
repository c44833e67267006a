"""A linear head on a frozen random network: the control for the linear probe, what the architecture alone is worth."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Log
from study.strategies.base import Phase, Strategy
from study.strategies.slots import Start


@dataclass(frozen=True, kw_only=True)
class RandomProbe(Strategy):
    name: ClassVar[str] = "random_probe"
    title: ClassVar[str] = "linear probe of random features"
    source: ClassVar[str] = "a control"
    start: ClassVar[Start] = "random"
    control_of: ClassVar[str] = "linear_probe"

    lr: Annotated[float, Log(1e-4, 1e-1)] = 3e-3

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs=epochs, lrs=(self.lr,) + (None,) * stages),)
