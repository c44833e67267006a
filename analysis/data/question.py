"""The question, which holds fixed everything but the strategy: strategies are compared within a question, never across.

`Question.of_cell` reads a question from a cell, `Question.of` from a row of any table. Every table has all of COLUMNS.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import pandas as pd

from study.question.cell import Cell
from study.question.naming import DataName
from study.question.study_config import Study

LATE = ("max_epochs", "image_size")
"""Columns that a study may not use. They are 0 then, and are left out of tables that are written."""
COLUMNS = ("dataset", "splits", "backbone", "train_fraction", *LATE)


@dataclass(frozen=True, kw_only=True, order=True)
class Question:
    """One data set, split one way, with one backbone, share of the training images, budget and image size."""

    dataset: str
    splits: str
    backbone: str
    train_fraction: float
    max_epochs: int = 0  # of the search; 0: the study has one budget
    image_size: int = 0  # pixels; 0: the study has one size

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Read the question of a table's row. Raises KeyError where a column of COLUMNS is missing that every table has."""
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
        """Return the question of a cell of the study."""
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
        """Return its data set with its splits."""
        return DataName.of(self.dataset, self.splits)

    @property
    def base(self) -> Self:
        """Return the question with all training images and without budget and image size, which all questions on these data share."""
        return replace(self, train_fraction=1.0, max_epochs=0, image_size=0)

    @property
    def size(self) -> tuple[float, int, int]:
        """Return its position among the questions with the same `base`: (share of the images, epochs, pixels)."""
        return self.train_fraction, self.max_epochs, self.image_size

    @property
    def columns(self) -> dict[str, Any]:
        """Return it as columns of a table."""
        return {c: getattr(self, c) for c in COLUMNS}

    @property
    def lines(self) -> tuple[str, ...]:
        """Return its parts as readable text. Where a study has several, share of the images, epochs and pixels come last.

        A folder of the user's own images goes by the last part of its path.
        """
        data = self.data
        splits = f" ({data.splits_said})" if data.splits_said else ""
        size = () if self.train_fraction == 1 else (f"{self.train_fraction:.0%} of the training images",)
        budget = (f"{self.max_epochs} epoch{'s' * (self.max_epochs > 1)}",) if self.max_epochs else ()
        pixels = (f"{self.image_size} px",) if self.image_size else ()
        return f"{data.short}{splits}", self.backbone, *size, *budget, *pixels

    @property
    def panel(self) -> str:
        """Return its data set and backbone."""
        return ", ".join(self.lines[:2])

    @property
    def name(self) -> str:
        """Return its name for people to read, never to parse or to match on."""
        return ", ".join(self.lines)


def with_names(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table for files and pages, with its questions replaced by their names."""
    return table.assign(question=[q.name for q in table["question"]]) if "question" in table else table


def without_unused(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table for files, without the columns of budget and image size where the study has only one of them."""
    return table.drop(columns=[c for c in LATE if c in table and (table[c] == 0).all()])
