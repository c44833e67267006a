"""A user's own images have one short name, on the page, behind a colon and in MLflow, whatever is in front of it and however they are
read.
"""

import itertools
import re
from types import SimpleNamespace

import pytest

from analysis.data.question import Question
from analysis.findings.pick import Pick
from study.question.cell import Cell
from study.question.name_parts import OPTIONS
from study.question.naming import DataName
from study.tracking.names import cell_names

PLACES = ("/home/me/", "", "/mnt/a@b/c d/", "/x/why?/", "C:/Users/me/")
OWN = {
    "folder": ("leaves", "leaves/", "what?", "my photos@2026"),
    "table": ("labels.csv", "train.2.parquet", "a b.tsv"),
    "hf": ("beans",),
}
READ = (
    "",
    "?label=species",
    "?image=file&label=species",
    "?names=/home/me/classes.csv&label=x",
    "?split=part&images=/home/me/photos",
    "?config=b&image=c",
)


def names() -> list[tuple[str, str]]:
    found = [("digits", "digits"), ("mini_faces", "mini_faces"), ("hf:cats_vs_dogs", "hf:cats_vs_dogs")]
    for kind, own in OWN.items():
        for place, last, read in itertools.product(
            PLACES, own, [read for read in READ if set(re.findall(r"[?&](\w+)=", read)) <= set(OPTIONS[kind])]
        ):
            if place or kind != "hf":
                found.append((f"{kind}:{place}{last}{read}", last.rstrip("/") if place else f"{kind}:{last}".rstrip("/")))
    return found


@pytest.mark.parametrize(("dataset", "said"), names())
def test_ones_own_images_are_named_alike_everywhere(dataset: str, said: str) -> None:
    cell = Cell(dataset=dataset, backbone="resnet18", strategy="full")
    assert DataName.of(dataset).short == said
    assert Question(dataset=dataset, splits="official", backbone="resnet18", train_fraction=1.0).lines[0] == said
    pick = SimpleNamespace(cell=cell)
    assert Pick.dataset.fget(pick) == Pick.of.fget(pick) == said  # type: ignore[attr-defined]
    assert cell_names([cell])[cell] == f"{said} full"
