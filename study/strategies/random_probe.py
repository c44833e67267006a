"""A linear head on a frozen random network: the control for the linear probe, which shows the worth of the architecture alone."""

from dataclasses import dataclass
from typing import ClassVar

from study.strategies.linear_probe import LinearProbe
from study.strategies.slots import Start


@dataclass(frozen=True, kw_only=True)
class RandomProbe(LinearProbe):
    name: ClassVar[str] = "random_probe"
    title: ClassVar[str] = "linear probe of random features"
    source: ClassVar[str] = "a control"
    start: ClassVar[Start] = "random"
    control_of: ClassVar[str] = "linear_probe"
