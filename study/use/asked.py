"""Answers about a picture besides its probabilities: the classes that may be the true one, and whether it may be none."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from study.console.text import harmless, shown


class MakesSets(Protocol):
    """Prediction sets, as `analysis.findings.sets` has them."""

    @property
    def level(self) -> float: ...

    @property
    def text(self) -> str: ...

    @property
    def short(self) -> str: ...

    def of(self, shares: np.ndarray) -> list[list[int]]:
        """Probabilities [N, C] -> by picture, the numbers of the classes in its set."""
        ...


class TellsUnknown(Protocol):
    """The interface of what tells pictures of none of the classes, as in `study.use.unknown`."""

    @property
    def text(self) -> str: ...

    @property
    def speaks(self) -> bool: ...

    @property
    def trusted(self) -> bool: ...

    def of_files(self, paths: Sequence[str]) -> np.ndarray:
        """bool [N]."""
        ...


class Asked:
    """Columns of a table, keys of a line of JSON, and words of a line for people. `classes` are in the order of the probabilities.

    An `unknown` that does not speak gives the reason, and says nothing of any picture. One that is not to be trusted says yes, and
    never no. `rule` is that by which the class is named, in words, where it is not the likeliest: sets go by probability alone.
    """

    def __init__(self, classes: Sequence[str], sets: MakesSets | None = None, unknown: TellsUnknown | None = None, rule: str = "") -> None:
        self.classes, self.sets = list(classes), sets
        self.unknown = unknown if unknown is not None and unknown.speaks else None
        self.texts = [own.text for own in (sets, unknown) if own is not None]  # what was measured, a line each
        if sets is not None and rule:
            self.texts.append(f"a set may lack the class that is named: it holds the likely ones, and the network {rule}")
        self.between = next((s for s in (";", "|") if not any(s in c for c in classes)), "\t")  # names of classes in one cell

    @property
    def names(self) -> list[str]:
        """Return the names of its columns."""
        return [*(["in_set"] if self.sets else []), *(["none_of_these"] if self.unknown else [])]

    @property
    def kind(self) -> str:
        """Return what a table's network is called besides, so that one table holds one kind of answers."""
        return f"{f' sets {self.sets.level:g}' if self.sets else ''}{' none' if self.unknown else ''}"

    def rows(self, images: Sequence[str], shares: np.ndarray) -> list[list[str]]:
        """A text for each of `names`, of every picture; `shares`: probabilities [N, C]."""
        cells: dict[str, Callable[[Any], str]] = {
            "set": lambda names: harmless(self.between.join(names)),
            "none_of_these": lambda none: "" if none is None else "yes" if none else "no",
        }
        return [[cells[key](value) for key, value in own.items()] for own in self.values(images, shares)]

    def values(self, images: Sequence[str], shares: np.ndarray) -> list[dict[str, Any]]:
        """The same as plain values: `set`, names of classes, and `none_of_these`, None where nothing is said."""
        out: list[dict[str, Any]] = [{} for _ in images]
        if self.sets is not None:
            for own, numbers in zip(out, self.sets.of(shares), strict=True):
                own["set"] = [self.classes[k] for k in numbers]
        if self.unknown is not None:
            for own, none in zip(out, self.unknown.of_files(images).tolist(), strict=True):
                own["none_of_these"] = True if none else False if self.unknown.trusted else None
        return out

    def words(self, values: dict[str, Any]) -> list[str]:
        """The same for people."""
        in_set = [f"set: {', '.join(map(shown, values['set']))}"] if "set" in values else []
        return [*in_set, *(["none of these"] if values.get("none_of_these") else [])]
