"""The strategies under comparison. To add one: write its file, list it here; the laws in tests/ greet it."""

from study.strategies.base import Phase, Strategy
from study.strategies.full import Full
from study.strategies.layer_decay import LayerDecay
from study.strategies.linear_probe import LinearProbe
from study.strategies.lp_ft import LpFt
from study.strategies.partial import Partial
from study.strategies.random_probe import RandomProbe
from study.strategies.scratch import Scratch

STRATEGIES: dict[str, type[Strategy]] = {s.name: s for s in (LinearProbe, Partial, Full, LayerDecay, LpFt, Scratch, RandomProbe)}

__all__ = ["STRATEGIES", "Full", "LayerDecay", "LinearProbe", "LpFt", "Partial", "Phase", "RandomProbe", "Scratch", "Strategy"]
