"""What a comparison holds fixed: strategies are compared within a question, never across."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd

COLUMNS = ("dataset", "splits", "backbone", "train_fraction")


@dataclass(frozen=True, kw_only=True, order=True)
class Question:
    """One data set, split one way, one backbone, one share of the training images."""

    dataset: str
    splits: str
    backbone: str
    train_fraction: float

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The question of a frame's row or of a cell's fields; raises KeyError where one of COLUMNS is missing."""
        return cls(
            dataset=str(row["dataset"]),
            splits=str(row["splits"]),
            backbone=str(row["backbone"]),
            train_fraction=float(row["train_fraction"]),
        )

    @property
    def columns(self) -> dict[str, Any]:
        """As a table's columns."""
        return {c: getattr(self, c) for c in COLUMNS}

    @property
    def lines(self) -> tuple[str, ...]:
        """Its parts to read, the size last where it is not the whole. A folder goes by its last part."""
        kind, _, path = self.dataset.partition(":")
        shown = (kind == "folder" and path.rstrip("/").rpartition("/")[2]) or self.dataset
        splits = "" if self.splits == "official" else f" ({self.splits} splits)"
        size = () if self.train_fraction == 1 else (f"{self.train_fraction:.0%} of the training images",)
        return f"{shown}{splits}", self.backbone, *size

    @property
    def panel(self) -> str:
        """The question without its size: sizes of one panel belong on one axis."""
        return ", ".join(self.lines[:2])

    @property
    def name(self) -> str:
        """For people to read, never to parse or to match on."""
        return ", ".join(self.lines)


def with_names(table: pd.DataFrame) -> pd.DataFrame:
    """A table for files and pages: its questions by name."""
    return table.assign(question=[q.name for q in table["question"]]) if "question" in table else table
