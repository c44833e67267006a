"""Checks that a study that is resumed, measured or trained again has the images it was begun with.

Images are compared by name, label, split and pixels.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Collection
from typing import Any

from study.console.progress import warn
from study.console.text import shown
from study.datasets import open_dataset
from study.datasets.contents import DIGITS, contents, decoder
from study.datasets.spec import ImageTable, some
from study.errors import DataError
from study.question.naming import DataName
from study.records import dumps
from study.storage.places import Places
from study.tracking.ledger import Ledger

Tables = dict[tuple[str, str], ImageTable]
"""Image tables by (dataset, protocol of its splits)."""
Marks = dict[str, dict[str, Any]]
"""Marks of the images by NAME@SPLITS: `labelled`, `image_marks` and `contents` of data_report.json."""


def check_same(tables: Tables, ledger: Ledger) -> Marks:
    """Return the marks of each data set.

    Raises DataError where one is no longer what the study was begun with: other names, labels or splits, or other pictures under the same
    names.
    """
    before = ledger.data_report()
    marks: Marks = {}
    for (name, splits), table in tables.items():
        key = DataName.of(name, splits).key
        known, labelled, images = before.get(key, {}), _labelled(table), _images(table)
        if known.get("labelled", labelled) != labelled:
            raise DataError(
                f"{name}: its images, their labels or their splits are not those {ledger.folder.location} was begun with"
                f"{_which(known.get('image_marks', images), images)}; put them back, or ask anew under another --name."
            )
        marks[key] = {"labelled": labelled, "image_marks": images, "contents": _check_contents(name, table, known.get("contents"), ledger)}
    return marks


def twice_there(marks: Marks) -> list[str]:
    """Return a line for each two data sets that share images by their pixels: their results are not independent."""
    seen = {key: Counter(d for d in _digests(mark["contents"]["digests"]) if d.strip("0")) for key, mark in marks.items()}
    lines = []
    for (one, a), (other, b) in itertools.combinations(seen.items(), 2):
        name, of = (DataName.parse(key).dataset for key in (one, other))
        if name != of and (both := (a & b).total()):
            lines.append(f"{name}: {both} of its {a.total()} images are images of {of} too. What is found on both data sets is found once")
    return lines


def check_begun(ledger: Ledger, datasets: Collection[str], places: Places) -> None:
    """Check that these data sets of the study are those it was begun with, before anything is trained or measured again.

    Raises ConfigError or DataError.
    """
    study, tables = ledger.study(), Tables()
    for cell in study.cells if study is not None else ():
        key = (cell.dataset, cell.split_protocol)
        if cell.dataset in datasets and key not in tables:
            tables[key] = open_dataset(cell.dataset, splits=cell.splits, root=places.data_root)
    check_same(tables, ledger)


def _labelled(table: ImageTable) -> str:
    """Return 16 hex digits of the images' names, labels and splits."""
    content = [table.classes, table.ids, table.labels.tolist(), table.split.tolist()]
    return hashlib.sha256(dumps(content).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _images(table: ImageTable) -> dict[str, str]:
    """Return by the name of each image a few digits of its label, and its split."""
    labels = (
        [c for c, own in zip(table.classes, row, strict=True) if own] if table.several else table.classes[row] for row in table.labels
    )
    digits = (hashlib.sha256(dumps(label).encode("utf-8", "backslashreplace")).hexdigest()[:DIGITS] for label in labels)
    marks = (f"{label}{int(split)}" for label, split in zip(digits, table.split, strict=True))
    return {i.encode("utf-8", "backslashreplace").decode(): mark for i, mark in zip(table.ids, marks, strict=True)}


def _which(was: dict[str, str], now: dict[str, str]) -> str:
    """Return the images that differ, in words: those that came, went or got other labels, else other splits, which follow from these."""
    both = [i for i in now if i in was]
    kinds = {
        "new": [i for i in now if i not in was],
        "gone": [i for i in was if i not in now],
        "with another label": [i for i in both if now[i][:DIGITS] != was[i][:DIGITS]],
    }
    if not any(kinds.values()):
        kinds = {"in another split": [i for i in both if now[i] != was[i]]}
    said = [f"{len(found)} {kind}: {some([shown(i) for i in found], 3)}" for kind, found in kinds.items() if found]
    return f" ({'; '.join(said)})" if said else ""


def _check_contents(name: str, table: ImageTable, known: dict[str, str] | None, ledger: Ledger) -> dict[str, str]:
    """Return the marks of the pictures. Raises DataError naming those that differ from before."""
    now = contents(table)
    own = {"decoder": decoder(), "digests": "".join(one or "0" * DIGITS for one in now)}
    if known is None or len(known["digests"]) != len(own["digests"]):
        return own
    was = zip(_digests(known["digests"]), now, strict=True)
    others = [table.ids[k] for k, (a, b) in enumerate(was) if b and a != b]
    if others and known["decoder"] != own["decoder"]:
        warn(
            f"{name}: {len(others)} of its {len(now)} images have other pixels than {ledger.folder.location} was begun with, by "
            f"{own['decoder']} where it was {known['decoder']} then; whether the files are the same cannot be told ({some(others, 3)})"
        )
    elif others:
        raise DataError(
            f"{name}: {len(others)} of its {len(now)} images are not those {ledger.folder.location} was begun with, by their pixels "
            f"({some(others)}). Put them back, or ask anew under another --name."
        )
    return known


def _digests(joined: str) -> list[str]:
    """Return the digest of each image; zeros where it could not be decoded."""
    return [joined[k : k + DIGITS] for k in range(0, len(joined), DIGITS)]
