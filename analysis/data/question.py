"""What a comparison holds fixed: strategies are compared within a question, never across.

A question is read off a cell by `Question.of_cell`, off a row of any table by `Question.of`; a table holds all of COLUMNS.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import pandas as pd

from study.question.config import Cell, Study
from study.question.naming import DataName

LATE = ("max_epochs", "image_size")
"""Columns that a study may not use: then they are 0, and no table that is written has them."""
COLUMNS = ("dataset", "splits", "backbone", "train_fraction", *LATE)


@dataclass(frozen=True, kw_only=True, order=True)
class Question:
    """One data set, split one way, one backbone, one share of the training images, one budget, one size of images."""

    dataset: str
    splits: str
    backbone: str
    train_fraction: float
    max_epochs: int = 0  # of the search; 0: the study has one budget
    image_size: int = 0  # pixels; 0: the study has one size

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The question of a table's row; raises KeyError where one of COLUMNS is missing that every table has."""
        late = {name: row.get(name) for name in LATE}
        return cls(
            dataset=str(row["dataset"]),
            splits=str(row["splits"]),
            backbone=str(row["backbone"]),
            train_fraction=float(row["train_fraction"]),
            **{name: int(value) for name, value in late.items() if value is not None and value == value},
        )

    @classmethod
    def of_cell(cls, cell: Cell, study: Study) -> Self:
        """The question of a cell of the study."""
        own = study.protocol_of(cell)
        return cls(
            dataset=cell.dataset,
            splits=cell.splits,
            backbone=cell.backbone,
            train_fraction=cell.train_fraction,
            max_epochs=own.max_epochs if any(c.budget != 1 for c in study.cells) else 0,
            image_size=own.image_size if any(c.image_size for c in study.cells) else 0,
        )

    @property
    def data(self) -> DataName:
        """Its data set with its splits."""
        return DataName.of(self.dataset, self.splits)

    @property
    def base(self) -> Self:
        """The same at all training images, and whatever budget and size of images: what the questions on it have in common."""
        return replace(self, train_fraction=1.0, max_epochs=0, image_size=0)

    @property
    def size(self) -> tuple[float, int, int]:
        """Where it stands among the questions with its `base`: the share of the images, the epochs, the pixels."""
        return self.train_fraction, self.max_epochs, self.image_size

    @property
    def columns(self) -> dict[str, Any]:
        """As a table's columns."""
        return {c: getattr(self, c) for c in COLUMNS}

    @property
    def lines(self) -> tuple[str, ...]:
        """Its parts to read; last, where a study has several, the share of the images, the epochs and the pixels. One's own images go by the last
        part of where they lie."""
        data = self.data
        splits = f" ({data.splits_said})" if data.splits_said else ""
        size = () if self.train_fraction == 1 else (f"{self.train_fraction:.0%} of the training images",)
        budget = (f"{self.max_epochs} epoch{'s' * (self.max_epochs > 1)}",) if self.max_epochs else ()
        pixels = (f"{self.image_size} px",) if self.image_size else ()
        return f"{data.short}{splits}", self.backbone, *size, *budget, *pixels

    @property
    def panel(self) -> str:
        """Its data set and backbone."""
        return ", ".join(self.lines[:2])

    @property
    def name(self) -> str:
        """For people to read, never to parse or to match on."""
        return ", ".join(self.lines)


def with_names(table: pd.DataFrame) -> pd.DataFrame:
    """A table for files and pages: its questions by name."""
    return table.assign(question=[q.name for q in table["question"]]) if "question" in table else table


def without_unused(table: pd.DataFrame) -> pd.DataFrame:
    """A table for files: the columns of budgets and sizes of images are left out where the study has one of them."""
    return table.drop(columns=[c for c in LATE if c in table and (table[c] == 0).all()])
