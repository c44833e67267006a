"""Names on a server. MLflow takes letters, digits and _ - . space in a metric's name, and a slash makes a section of charts."""

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from study.question.cell import QUESTION, Cell
from study.records import Ask, Stage
from study.scoring.metric import DEFAULT, Metric
from study.strategies import LINES


def first(metric: Metric = DEFAULT) -> str:
    """Return the section of the metric that decides, which charts show first, since capitals come first in the alphabet's order.

    It repeats the metric's scores on validation and test as its own numbers, where those of a loss are positive.
    """
    return re.sub(r"[^\w. -]+", " ", metric.title).strip()


NETWORK, CALIBRATED = "model", "model_calibrated"
"""Folders of a trial's run that hold its network: as it was searched, and as it is to be used."""

LONGEST = 60  # characters of a class's name


def class_names(classes: Sequence[str]) -> list[str]:
    """Return each class as a part of a metric's name, no two alike even for a database that takes e for é and A for a."""
    plain = [re.sub(r"[^\w.-]+", " ", name).strip(" .")[:LONGEST].strip(" .") for name in classes]
    count = Counter(map(_folded, plain))
    alone = [count[_folded(name)] == 1 and not re.search(r"(^| )c\d{3,}$", name) and name != "" for name in plain]
    return [name if own else f"{name} c{k:03d}".strip() for k, (name, own) in enumerate(zip(plain, alone, strict=True))]


def _folded(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))


def cell_names(cells: Iterable[Cell]) -> dict[Cell, str]:
    """Return a short name for each cell that tells it from the others: "partial", or "mini_faces partial" in a study of one cell."""
    cells = list(cells)
    several = {name: len({getattr(c, name) for c in cells}) > 1 for name in (*QUESTION, "strategy")}
    if not several["strategy"] and sum(several.values()) <= several["splits"]:
        several |= {"dataset": True, "strategy": True}
    several["dataset"] |= several["splits"]
    short = {c: _name(c, several, c.data.short_full if several["splits"] else c.data.short) for c in cells}
    count = Counter(short.values())
    return {c: s if count[s] == 1 else _name(c, several, c.data.full if several["splits"] else c.dataset) for c, s in short.items()}


def names_by_cell(cells: Iterable[Cell]) -> dict[str, str]:
    """Return the short names by cell id, with those of the lines to beat beside these cells."""
    own = cell_names(cells)
    beside = (dataclasses.replace(c, strategy=line, image_size=size) for c in own for line in LINES for size in (c.image_size, 0))
    lines = dict.fromkeys(cell for cell in beside if cell not in own)
    return {c.id: own.get(c, name) for c, name in cell_names([*own, *lines]).items()}


def run_name(ask: Ask, cell: str) -> str:
    """Return the name of a trial's run, `cell` being its cell's name: "partial #5", "partial confirm #0"."""
    suffix = {Stage.SEARCH: "", Stage.CONFIRM: " confirm", Stage.BUDGET: " budget"}.get(ask.stage, f" {ask.origin.value}")
    return f"{cell}{suffix} #{ask.number}"


def _name(cell: Cell, several: dict[str, bool], dataset: str) -> str:
    parts = {
        "dataset": dataset,
        "backbone": cell.backbone,
        "strategy": cell.strategy,
        "train_fraction": f"{cell.train_fraction:.3g} of the images",
        "budget": f"{cell.budget}x the epochs",
        "image_size": f"{cell.image_size} px" if cell.image_size else "",
    }
    return " ".join(part for name, part in parts.items() if several[name] and part)
