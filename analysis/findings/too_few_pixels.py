"""Whether a study trained on images much smaller than its own images and its network allow, and what the next size would cost."""

from dataclasses import dataclass

from analysis.data.frames import Frames
from analysis.data.question import Question

FULL = 0.5  # of the smaller of both: below it, it is said
STEP = 32  # pixels: every stage of a convolutional network halves, five times


@dataclass(frozen=True, kw_only=True)
class Small:
    """Sizes in pixels a side."""

    trained: int
    images: int  # the median of their shorter sides
    network: int  # that its weights were trained at

    @property
    def larger(self) -> int:
        """The next size worth asking for: about twice the side, which is less than both; the network's own where that is hardly more."""
        side = 2 * self.trained
        if self.network - side < STEP and self.network <= self.images:
            return self.network
        return side // STEP * STEP if side >= STEP else side

    @property
    def times(self) -> float:
        """The compute of the next size, as a multiple: in proportion to pixels."""
        return (self.larger / self.trained) ** 2

    @property
    def found(self) -> str:
        """In words, without a subject."""
        return f"at {self.trained} px, while the images have {self.images} px and the network was made for {self.network}"

    @property
    def cost(self) -> str:
        """Of the next size, in words."""
        return f"{self.larger} px would take about {self.times:.2g} times the compute"


def small(frames: Frames, question: Question) -> Small | None:
    """None where the images are not small, or the study did not record what they could be."""
    report = frames.data_report.get(question.data.key, {})
    images, network = report.get("median_side"), frames.facts.get("own_sizes", {}).get(question.backbone)
    trained = frames.confirmed_protocol(question).image_size
    if not images or not network or trained >= FULL * min(images, network):
        return None
    return Small(trained=trained, images=images, network=network)
