"""Linear probe: the backbone frozen and in eval mode, a linear head on its pooled features (Kornblith et al. 2019)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Log
from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class LinearProbe(Strategy):
    name: ClassVar[str] = "linear_probe"
    title: ClassVar[str] = "linear probe"
    source: ClassVar[str] = "Kornblith et al. 2019, arXiv 1805.08974"

    lr: Annotated[float, Log(1e-4, 1e-1)] = 3e-3

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs=epochs, lrs=(self.lr,) + (None,) * stages),)
