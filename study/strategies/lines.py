"""The lines to beat: a linear classifier on frozen features, solved exactly. No epochs, no learning rate, no chance.

They are no members of `STRATEGIES`: no search covers them and every study has them (study/conduct/lines.py), so no study asks for them by
name.
"""

from dataclasses import dataclass
from typing import ClassVar

from study.strategies.base import Phase, Strategy


@dataclass(frozen=True, kw_only=True)
class Features(Strategy):
    """Logistic regression on the pooled features of the pretrained network, at the image size that the network was made for."""

    name: ClassVar[str] = "features"
    title: ClassVar[str] = "frozen features, exact"
    source: ClassVar[str] = "Kornblith et al. 2019, arXiv 1805.08974, section 3"
    exact: ClassVar[bool] = True

    strength: float = 0.0  # C of the logistic regression; 0: validation chooses

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs=epochs, lrs=(0.0,) + (None,) * stages),)


@dataclass(frozen=True, kw_only=True)
class FeaturesSmall(Features):
    """The same line at the fewer pixels that the study trains at: it shows the cost of small images and the gain of training at this
    size."""

    name: ClassVar[str] = "features_small"
    title: ClassVar[str] = "frozen features, exact, at the study's image size"
    yardstick: ClassVar[bool] = True


LINES: dict[str, type[Strategy]] = {cls.name: cls for cls in (Features, FeaturesSmall)}
