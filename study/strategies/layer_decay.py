"""Layer-wise learning-rate decay: everything is trained, stage k from the head at lr * decay**k (ULMFiT 2018, BEiT 2021)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Log, Uniform
from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class LayerDecay(Strategy):
    name: ClassVar[str] = "layer_decay"
    title: ClassVar[str] = "layer-wise lr decay"
    source: ClassVar[str] = "Howard and Ruder 2018, arXiv 1801.06146; Bao et al. 2022, arXiv 2106.08254"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3
    decay: Annotated[float, Uniform(0.5, 0.95)] = 0.75

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs=epochs, lrs=tuple(self.lr * self.decay**k for k in range(stages + 1))),)
