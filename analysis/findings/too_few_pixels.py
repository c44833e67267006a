"""Two signs that a study was trained on too small images, with the cost of the next size.

- *small*: below half of what its own images and its network allow. It is said in the scope of every verdict.
- *fewer pixels*: below what the line to beat saw, whose frozen features are those of the network's own size. A strategy trained on
  smaller images may not lose to it, nor be called equal: the size is a resource that the line was given and the strategy was not.
  Measured with both miniatures at 64 px and EfficientNet-Lite0: the line beat the last stages by 8 and 23 points, and was behind them by
  2 and 13 at 128 px.
"""

from dataclasses import dataclass

from analysis.data.frames import Frames
from analysis.data.question import Question
from study.strategies import EVERY, Features

FULL = 0.5  # of the smaller of both: below it, it is said
STEP = 32  # pixels: every stage of a convolutional network halves, five times


@dataclass(frozen=True, kw_only=True)
class Small:
    """Image sizes of a study in pixels, each the side of a square."""

    trained: int
    images: int  # the median of their shorter sides
    network: int  # that its weights were trained at, or the line to beat saw

    @property
    def larger(self) -> int:
        """Return the next size worth trying: about twice the side, or the network's own size where that is hardly more."""
        side = 2 * self.trained
        if self.network - side < STEP:
            return self.network
        return side // STEP * STEP if side >= STEP else side

    @property
    def times(self) -> float:
        """Return the compute of the next size as a multiple of the present one, in proportion to the number of pixels."""
        return (self.larger / self.trained) ** 2

    @property
    def found(self) -> str:
        """Return the finding in words, without a subject."""
        return f"at {self.trained} px, while the images have {self.images} px and the network was made for {self.network}"

    @property
    def cost(self) -> str:
        """Return the cost of the next size in words."""
        return f"{self.larger} px would take about {self.times:.2g} times the compute"


@dataclass(frozen=True, kw_only=True)
class Fewer:
    """A strategy that was trained on smaller images than the line to beat saw."""

    strategy: str
    line: str
    sizes: Small

    @property
    def reason(self) -> str:
        """Return the reason as a doubt states it."""
        saw = f"{self.line} saw images of {self.sizes.network} px"
        return f"{self.strategy} was trained at {self.sizes.trained} px and {saw}, so larger images may change this"


def fewer(frames: Frames, question: Question, strategy: str, other: str) -> Fewer | None:
    """Return the doubt about a strategy that may lose to `other`, or None where that saw no larger images, or it is not known."""
    seen = frames.study.line_size or frames.facts.get("own_sizes", {}).get(question.backbone) or 0
    trained = frames.confirmed_protocol(question).image_size
    if other != Features.name or EVERY[strategy].exact or trained >= seen:
        return None
    images = frames.data_report.get(question.data.key, {}).get("median_side") or seen
    return Fewer(strategy=strategy, line=other, sizes=Small(trained=trained, images=images, network=seen))


def small(frames: Frames, question: Question) -> Small | None:
    """Return the sizes, or None where the images are not small or the study did not record their full size."""
    report = frames.data_report.get(question.data.key, {})
    images, network = report.get("median_side"), frames.facts.get("own_sizes", {}).get(question.backbone)
    trained = frames.confirmed_protocol(question).image_size
    if not images or not network or trained >= FULL * min(images, network):
        return None
    return Small(trained=trained, images=images, network=network)
