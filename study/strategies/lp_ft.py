"""LP-FT: a linear probe first, then everything from that head (Kumar et al. 2022, arXiv 2202.10054)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from study.space import Log, Uniform
from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class LpFt(Strategy):
    name: ClassVar[str] = "lp_ft"
    title: ClassVar[str] = "probe, then everything"
    source: ClassVar[str] = "Kumar et al. 2022, arXiv 2202.10054"

    probe_lr: Annotated[float, Log(1e-4, 1e-1)] = 3e-3
    lr: Annotated[float, Log(3e-5, 3e-2)] = 1e-3
    probe_share: Annotated[float, Uniform(0.2, 0.6)] = 0.4

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        if epochs < 2:
            raise ValueError(f"lp_ft needs at least 2 epochs (one to probe, one to tune), not {epochs}.")
        probe = min(max(round(epochs * self.probe_share), 1), epochs - 1)
        return (
            Phase(epochs=probe, lrs=(self.probe_lr,) + (None,) * stages),
            Phase(epochs=epochs - probe, lrs=(self.lr,) * (stages + 1)),
        )
