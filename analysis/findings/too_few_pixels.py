"""A warning for studies trained on images much smaller than their own images and their network allow, with the cost of the next size."""

from dataclasses import dataclass

from analysis.data.frames import Frames
from analysis.data.question import Question

FULL = 0.5  # of the smaller of both: below it, it is said
STEP = 32  # pixels: every stage of a convolutional network halves, five times


@dataclass(frozen=True, kw_only=True)
class Small:
    """Image sizes of a study in pixels, each the side of a square."""

    trained: int
    images: int  # the median of their shorter sides
    network: int  # that its weights were trained at

    @property
    def larger(self) -> int:
        """Return the next size worth trying: about twice the side, or the network's own size where that is hardly more."""
        side = 2 * self.trained
        if self.network - side < STEP and self.network <= self.images:
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


def small(frames: Frames, question: Question) -> Small | None:
    """Return the sizes, or None where the images are not small or the study did not record their full size."""
    report = frames.data_report.get(question.data.key, {})
    images, network = report.get("median_side"), frames.facts.get("own_sizes", {}).get(question.backbone)
    trained = frames.confirmed_protocol(question).image_size
    if not images or not network or trained >= FULL * min(images, network):
        return None
    return Small(trained=trained, images=images, network=network)
