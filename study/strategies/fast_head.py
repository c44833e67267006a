"""Full fine-tuning with a faster head, since only the head is new (ten times the rate in the code of Kumar et al. 2022)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Log
from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class FastHead(Strategy):
    name: ClassVar[str] = "fast_head"
    title: ClassVar[str] = "everything, the head faster"
    source: ClassVar[str] = "code of Kumar et al. 2022, arXiv 2202.10054"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3
    head_factor: Annotated[float, Log(1.0, 100.0)] = 10.0  # times lr, for the head

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs=epochs, lrs=(self.lr * self.head_factor, *(self.lr,) * stages)),)
