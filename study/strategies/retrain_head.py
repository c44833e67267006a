"""Last-layer re-training: everything is trained, then a fresh head alone on the resulting features (Kirichenko et al. 2023)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from study.space import Choice, Log, Uniform
from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class RetrainHead(Strategy):
    name: ClassVar[str] = "retrain_head"
    title: ClassVar[str] = "everything, then a fresh head"
    source: ClassVar[str] = "Kirichenko et al. 2023, arXiv 2204.02937"

    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3
    head_lr: Annotated[float, Log(1e-4, 1e-1)] = 3e-3
    head_share: Annotated[float, Uniform(0.2, 0.6)] = 0.4  # of the epochs
    shown: Annotated[Literal["balanced", "all"], Choice("balanced", "all")] = "balanced"  # to the fresh head: every class equally often

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shown not in ("balanced", "all"):
            raise ValueError(f"shown must be balanced or all, not {self.shown!r}.")

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        if epochs < 2:
            raise ValueError(f"retrain_head needs at least 2 epochs (one to tune, one for the head), not {epochs}.")
        last = min(max(round(epochs * self.head_share), 1), epochs - 1)
        return (
            Phase(epochs=epochs - last, lrs=(self.lr,) * (stages + 1)),
            Phase(epochs=last, lrs=(self.head_lr,) + (None,) * stages, fresh_head=True, balanced=self.shown == "balanced"),
        )
