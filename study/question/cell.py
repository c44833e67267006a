"""A cell of the comparison, the question that it belongs to, and the grid of all of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from study.bounds import check_fields, check_types
from study.canonical import added, late_fields
from study.errors import nearest, require
from study.question.naming import DataName
from study.strategies import EVERY, STRATEGIES


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the comparison: data, backbone, strategy, share of the images, budget and image size. All its fields are scientific."""

    dataset: str
    splits: str = "official"  # protocol of its splits, with ":k" for fold k, ":k+s" with validation images s folds further than usual
    backbone: str
    strategy: str
    train_fraction: float = 1.0  # stratified, nested: a smaller fraction is a subset of a larger one
    budget: int = added(1, since=7)  # so many times the protocol's epochs
    image_size: int = added(0, since=7)  # pixels, square; 0 = the protocol's, and what `Study.confirm_size` says of confirm runs

    def __post_init__(self) -> None:
        check_types(self)
        require(
            self.strategy in EVERY,
            f"Unknown strategy {self.strategy!r}. Choose from {nearest(self.strategy, list(STRATEGIES))}.",
        )
        check_fields(self)
        _ = self.data  # raises for what names no data set

    @property
    def data(self) -> DataName:
        """Return its data set with its splits, whose properties are all other forms of the name."""
        return DataName.of(self.dataset, self.splits)

    @property
    def split_protocol(self) -> str:
        """Return `splits` without its fold."""
        return self.data.protocol

    def on_fold(self, fold: int, shift: int = 0) -> Self:
        """Return the cell on this fold of its split protocol, with the validation split so many folds further than usual."""
        return dataclasses.replace(self, splits=self.data.on_fold(fold, shift).splits)

    @property
    def question(self) -> tuple[Any, ...]:
        """Return the fields within which its strategy is compared: all but the strategy, in the order of QUESTION."""
        return tuple(getattr(self, name) for name in QUESTION)

    @property
    def id(self) -> str:
        """Return a readable text that is unique within a study: DATASET/SPLITS/BACKBONE/STRATEGY/FRACTION.

        A cell with a budget of its own ends in ",3x", one with an image size of its own in ",128px".
        """
        own = f"{f',{self.budget}x' * (self.budget != 1)}{f',{self.image_size}px' * (self.image_size != 0)}"
        return f"{self.dataset}/{self.splits}/{self.backbone}/{self.strategy}/{self.train_fraction:g}{own}"


QUESTION = tuple(f.name for f in dataclasses.fields(Cell) if f.name != "strategy")
"""The fields of a cell that make a question: strategies are compared where all of these are equal."""


def question_of(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return `Cell.question` of a cell, or of a question, in JSON, which lacks the late fields that it does not use."""
    return tuple(
        cell.get(f.name, f.default) if "since" in f.metadata else cell[f.name] for f in dataclasses.fields(Cell) if f.name in QUESTION
    )


def line_of(cell: Cell, strategy: str) -> Cell:
    """Return the cell of the line to beat beside this cell. Epochs do not apply to an exact solution, so all budgets share it."""
    return dataclasses.replace(cell, strategy=strategy, budget=1)


def question_json(question: Sequence[Any]) -> dict[str, Any]:
    """Return the question by field name, as `question_of` reads it."""
    unused = {f.name: f.default for f in late_fields(Cell)}
    return {name: value for name, value in zip(QUESTION, question, strict=True) if value != unused.get(name)}


def grid(
    datasets: tuple[str, ...] | list[str],
    backbones: tuple[str, ...] | list[str],
    strategies: tuple[str, ...] | list[str],
    train_fractions: tuple[float, ...] = (1.0,),
    budgets: tuple[int, ...] = (1,),
    image_sizes: tuple[int, ...] = (0,),
) -> tuple[Cell, ...]:
    """Return every combination as cells. A dataset may carry its split protocol after "@": "deepweeds@session".

    `budgets`: times the protocol's max_epochs; `image_sizes`: pixels, 0 for the protocol's. Each is a question of its own, tuned and
    confirmed separately. Raises ConfigError.
    """
    check_names(datasets=datasets, backbones=backbones, strategies=strategies)
    require(isinstance(train_fractions, (tuple, list)), f"train_fractions must be a list of shares, not {train_fractions!r}: (0.1, 1.0).")
    check_several("budgets", budgets, "a budget once, as in budgets=(1, 3, 10)")
    check_several("image_sizes", image_sizes, "a size once, as in image_sizes=(64, 128, 224)")
    return tuple(
        Cell(dataset=d.dataset, splits=d.splits, backbone=b, strategy=s, train_fraction=f, budget=n, image_size=px)
        for d in map(DataName.parse, datasets)
        for b in backbones
        for f in train_fractions
        for n in budgets
        for px in image_sizes
        for s in strategies
    )


def check_names(**lists: object) -> None:
    """Raise ConfigError for a text in place of a list of names, in which each letter would be a name."""
    for name, values in lists.items():
        several = isinstance(values, (tuple, list)) and all(isinstance(v, str) for v in values)
        require(
            several,
            f"{name} must be a list of names, each a text, not {values!r}: {[str(values)] if isinstance(values, str) else ['...']}.",
        )


def check_several(name: str, values: Sequence[int], way_out: str) -> None:
    require(
        isinstance(values, (tuple, list)) and len(values) > 0, f"{name} must be a tuple of whole numbers, not {values!r}. Give {way_out}."
    )
    twice = next((v for k, v in enumerate(values) if v in values[:k]), None)
    require(twice is None, f"{name} names {twice!r} twice. Give {way_out}.")
