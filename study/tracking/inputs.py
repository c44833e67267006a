"""The data sets of a run as MLflow's dataset inputs: one for each split, told apart by content."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from study.question.cell import Cell
from study.records import dumps

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

CONTEXTS = {"train": "training", "val": "validation", "test": "test"}


def inputs(cell: Cell, found: dict[str, Any], splits: Sequence[str] = tuple(CONTEXTS)) -> "list[DatasetInput]":
    """Return the inputs of a cell, taken from `found`, the data report; an empty list where the report does not know the cell's data.

    The numbers of images are those of the first fold; the other folds hold about as many.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    known = found.get(cell.data.key)
    if not known:
        return []
    out = []
    for split in splits:
        counts = known.get("counts", {}).get(split)
        if not counts:
            continue
        # the images' own fingerprint, and how they were split
        content = [known.get("fingerprint", ""), cell.splits, split, counts, known.get("classes")]
        numbers = {
            "images": sum(counts),
            "classes": len(counts),
            "images_by_class": dict(zip(known.get("classes", []), counts, strict=False)),
        }
        counted = cell.data.fold in (None, 0)
        dataset = Dataset(
            name=cell.data.short[:500],
            digest=hashlib.sha256(dumps(content).encode()).hexdigest()[:12],
            source_type="study",
            source=dumps({"dataset": cell.dataset, "splits": cell.splits, "form": known.get("form", "")}),
            profile=dumps({"split": split, **(numbers if counted else {"classes": len(counts)})}),
        )
        out.append(DatasetInput(dataset=dataset, tags=[InputTag(MLFLOW_DATASET_CONTEXT, CONTEXTS[split])]))
    return out
