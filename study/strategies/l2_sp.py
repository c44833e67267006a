"""L2-SP: everything, pulled back to the pretrained weights instead of to zero (Li et al. 2018)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Log
from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class L2SP(Strategy):
    name: ClassVar[str] = "l2_sp"
    title: ClassVar[str] = "everything, pulled to the start"
    source: ClassVar[str] = "Li et al. 2018, arXiv 1802.01483"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3
    pull: Annotated[float, Log(1e-4, 1e-1)] = 1e-2  # the paper's alpha; the head is decayed to zero as in every strategy

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs=epochs, lrs=(self.lr,) * (stages + 1), pull=self.pull),)
