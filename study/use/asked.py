"""What is said of a picture besides its probabilities, where it is asked for: the classes that may be the true one."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from study.console.text import harmless, shown


class MakesSets(Protocol):
    """Prediction sets, as `analysis.findings.sets` has them."""

    @property
    def level(self) -> float: ...

    @property
    def text(self) -> str: ...

    def of(self, shares: np.ndarray) -> list[list[int]]:
        """Probabilities [N, C] -> by picture, the numbers of the classes in its set."""
        ...


class Asked:
    """Columns of a table, keys of a line of JSON, and words of a line for people. `classes`: in the order of the probabilities."""

    def __init__(self, classes: Sequence[str], sets: MakesSets | None = None) -> None:
        self.classes, self.sets = list(classes), sets
        self.between = next((s for s in (";", "|") if not any(s in c for c in classes)), "\t")  # names of classes in one cell

    @property
    def names(self) -> list[str]:
        """Of its columns."""
        return ["in_set"] if self.sets else []

    @property
    def kind(self) -> str:
        """What a table's network is called besides, so that one table holds one kind of answers."""
        return f" sets {self.sets.level:g}" if self.sets else ""

    @property
    def texts(self) -> list[str]:
        """What was measured of it, a line each."""
        return [self.sets.text] if self.sets else []

    def rows(self, images: Sequence[str], shares: np.ndarray) -> list[list[str]]:
        """A text for each of `names`, of every picture; `shares`: probabilities [N, C]."""
        return [[harmless(self.between.join(own["set"]))] if self.sets else [] for own in self.values(images, shares)]

    def values(self, images: Sequence[str], shares: np.ndarray) -> list[dict[str, Any]]:
        """The same as plain values: `set`, names of classes."""
        if self.sets is None:
            return [{} for _ in images]
        return [{"set": [self.classes[k] for k in own]} for own in self.sets.of(shares)]

    def words(self, values: dict[str, Any]) -> list[str]:
        """The same for people."""
        return [f"set: {', '.join(map(shown, values['set']))}"] if self.sets else []
