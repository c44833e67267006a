"""What a server may call things: MLflow takes letters, digits and _ - . space in the name of a metric, and a slash makes a section of charts."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from study.question.config import QUESTION, Cell
from study.records import Ask, Stage
from study.scoring.metric import DEFAULT, Metric


def first(metric: Metric = DEFAULT) -> str:
    """Section of the metric that decides: charts stand in the alphabet's order, capitals first. It repeats its scores on validation and test, as
    the metric's own numbers: those of a loss are positive."""
    return re.sub(r"[^\w. -]+", " ", metric.title).strip()


LONGEST = 60  # characters of a class's name


def class_names(classes: Sequence[str]) -> list[str]:
    """Each class as a part of a metric's name, no two alike even for a database that takes e for é and A for a."""
    plain = [re.sub(r"[^\w.-]+", " ", name).strip(" .")[:LONGEST].strip(" .") for name in classes]
    count = Counter(map(_folded, plain))
    alone = [count[_folded(name)] == 1 and not re.search(r"(^| )c\d{3,}$", name) and name != "" for name in plain]
    return [name if own else f"{name} c{k:03d}".strip() for k, (name, own) in enumerate(zip(plain, alone, strict=True))]


def _folded(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))


def cell_names(cells: Iterable[Cell]) -> dict[Cell, str]:
    """What people call each: what tells it from the others, and no more. "partial"; of a study of one cell "mini_faces partial"."""
    cells = list(cells)
    several = {name: len({getattr(c, name) for c in cells}) > 1 for name in (*QUESTION, "strategy")}
    if not several["strategy"] and sum(several.values()) <= several["splits"]:
        several |= {"dataset": True, "strategy": True}
    several["dataset"] |= several["splits"]
    short = {c: _name(c, several, c.data.short_full if several["splits"] else c.data.short) for c in cells}
    count = Counter(short.values())
    return {c: s if count[s] == 1 else _name(c, several, c.data.full if several["splits"] else c.dataset) for c, s in short.items()}


def run_name(ask: Ask, cell: str) -> str:
    """What a trial's run is called, `cell` being its cell's name: "partial #5", "partial confirm #0"."""
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
