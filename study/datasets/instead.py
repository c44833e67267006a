"""Advice on a folder that is no data set of class folders: what it holds, and what to give instead. Only checked ways are named."""

import os
from collections.abc import Iterator
from pathlib import Path

from study.console.text import shown
from study.datasets import manifest
from study.datasets.folder import ARCHIVES, GROUPS, display_path
from study.datasets.imagefiles import is_junk, no_image
from study.datasets.spec import SPLIT_NAMES, some
from study.errors import StudyError
from study.question.naming import DataName

DEEPEST = 5  # folders that hold one folder each
OURS = ({"class", "probability", "problem", "network"}, {"image", "split", "label", "kind", "detail"})
"""Columns of tables that we write ourselves (predictions, lists of images worth a look), which are no tables of labels."""


def instead_of(path: Path) -> str:
    """Return a sentence to follow the reason why `path` was refused; empty where nothing more is known."""
    if inner := _wrapped(path):
        holds = some([shown(e.name) for e in _folders(inner)], 4)
        return f" It holds one folder, in which {holds} lie: give 'folder:{inner}'."
    if table := next(_tables(path), None):
        return f" There is a table of labels: give 'table:{table}'."
    for split in _folders(path):
        if split.name.lower() in SPLIT_NAMES and (count := _images_in(split)) and not _folders(split):
            return (
                f" {shown(split.name)} was taken for a folder of a split, and holds {count} image{'s' * (count > 1)} and no class "
                f"folders. If {shown(split.name)} is a class, rename the folder, or say each image's class in a table (table:PATH)."
            )
    if packed := sorted(e.name for e in path.iterdir() if e.suffix.lower() in ARCHIVES and e.is_file()):
        return (
            f" {some([shown(name) for name in packed], 3)} "
            f"{'are archives: unpack them' if len(packed) > 1 else 'is an archive: unpack it'}."
        )
    if count := _images_in(path):
        return (
            f" {count} image{'s lie' if count > 1 else ' lies'} in it directly: put those of each class into a folder of its "
            "name, or say their classes in a table (table:PATH)."
        )
    return ""


def _wrapped(path: Path) -> Path | None:
    """Return the folder below it that holds class folders or split folders, where only folders with one folder each lie between."""
    here = path
    for _ in range(DEEPEST):
        inside = _folders(here)
        if len(inside) != 1 or _images_in(here):
            break
        here = inside[0]
    return here if here != path and len(_folders(here)) > 1 else None


def _tables(path: Path) -> Iterator[Path]:
    """Yield tables with two labels or more and an existing image, from the folder, its sub-folders and its parent."""
    for folder in (path, *_folders(path), path.parent):
        try:
            entries = sorted(e for e in folder.iterdir() if e.suffix.lower() in manifest.KINDS and e.is_file())
        except OSError:
            continue
        yield from (e for e in entries if e.name != GROUPS and not is_junk(e.name) and _fits(e, path))


def _fits(table: Path, path: Path) -> bool:
    """Return True where the table's rows are labels of images and at least one of them is in `path`."""
    if display_path(table, table.parent) != table.name:
        return False
    try:
        header, rows = manifest.rows_of(table)
        if any(ours <= {h.lower() for h in header} for ours in OURS):
            return False
        _, kept, _, _ = manifest.usable_rows(header, rows, table, DataName(kind="table", where=str(table)))
    except (StudyError, OSError):
        return False
    inside = any(isinstance(one.source, Path) and one.source.is_relative_to(path) for one in kept)
    return inside and len({one.label for one in kept}) > 1


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(e for e in path.iterdir() if e.is_dir() and not is_junk(e.name))
    except OSError:
        return []


def _images_in(path: Path) -> int:
    return sum(no_image(name) is None for name in os.listdir(path))
