"""Everything from random weights: the control that reuses nothing (Neyshabur et al. 2020, arXiv 2008.11687)."""

from dataclasses import dataclass
from typing import ClassVar

from study.strategies.full import Full
from study.strategies.slots import Start


@dataclass(frozen=True, kw_only=True)
class Scratch(Full):
    name: ClassVar[str] = "scratch"
    title: ClassVar[str] = "everything, from random weights"
    source: ClassVar[str] = "Neyshabur et al. 2020, arXiv 2008.11687"
    start: ClassVar[Start] = "random"
    control_of: ClassVar[str] = "full"
