"""Any user's images: `folder:PATH` with train/ val/ test/ inside, or one folder per class, split by us.

A file PATH/groups.csv (columns file,group) keeps images of one group (a patient, a plant, a session) in one split.
"""

import csv
import os
import unicodedata
from pathlib import Path

import numpy as np

from study.datasets.imagefiles import SUFFIXES, check_headers, decode_file, fingerprint, identity, is_junk, refuse
from study.datasets.spec import SPLITS, ImageTable, display_name, stratified_split
from study.errors import DataError

SPLIT_NAMES = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2}


def read(path: Path, fold: int) -> ImageTable:
    """Raises DataError for anything that would make the result lie: empty classes, links out of the tree, unreadable images."""
    if not path.is_dir():
        raise DataError(
            f"folder:{path}: {'is a file' if path.exists() else 'does not exist'}; give a folder of class folders, or of train/, val/ and test/."
        )
    tops = {p.name.lower(): p for p in _folders(path)}
    given = {n: p for n, p in tops.items() if n in SPLIT_NAMES}
    ignored: list[str] = []
    if given:
        missing = {0, 1, 2} - {SPLIT_NAMES[n] for n in given}
        if missing:
            raise DataError(
                f"{path} has {', '.join(sorted(given))} but no {', '.join(SPLITS[m] for m in sorted(missing))}; give all three, or only class folders."
            )
        found = [(file, cls, SPLIT_NAMES[n]) for n, top in sorted(given.items()) for file, cls in _images(path, top, ignored)]
    else:
        found = [(file, cls, 0) for file, cls in _images(path, path, ignored)]
    if not found:
        raise DataError(f"{path} holds no images; expected {path}/<class>/*.jpg (also {', '.join(sorted(SUFFIXES))}).")
    raw_classes = sorted({unicodedata.normalize("NFC", cls) for _, cls, _ in found})
    if len(raw_classes) < 2:
        raise DataError(f"{path} holds one class only ({display_name(raw_classes[0])}); there is nothing to tell apart.")
    files = [file for file, _, _ in found]
    labels = np.array([raw_classes.index(unicodedata.normalize("NFC", cls)) for _, cls, _ in found], np.int64)
    classes = tuple(display_name(c) for c in raw_classes)
    size, bad = check_headers(files)
    if bad:
        raise refuse([(str(files[k]), reason) for k, reason in bad], str(path))
    groups = _groups(path, files)
    if given:
        split = np.array([s for _, _, s in found], np.int8)
        for k, name in enumerate(SPLITS):
            if empty := [c for i, c in enumerate(classes) if not ((split == k) & (labels == i)).any()]:
                if k == 0:
                    raise DataError(f"{path}: no {name} image of {', '.join(empty)}; a class must be seen to be learnt.")
    else:
        least = int(np.bincount(labels).min())
        if least < 5:
            few = [c for i, c in enumerate(classes) if (labels == i).sum() < 5]
            raise DataError(f"{path}: {', '.join(few)} has fewer than 5 images; add some, or give train/, val/ and test/ folders.")
        split = stratified_split(labels, groups, 0, fold)
    counts = "; ".join(f"{s} {int((split == k).sum())}" for k, s in enumerate(SPLITS))
    return ImageTable(
        name=f"folder:{path}",
        classes=classes,
        ids=tuple(display_path(f, path) for f in files),
        labels=labels,
        split=split,
        groups=groups,
        form=f"{len(files)} images of {len(classes)} classes, {'given' if given else 'own stratified'} split; {counts}"
        + (f"; {len(ignored)} other files ignored" if ignored else ""),
        fingerprint=fingerprint(["folder", *map(identity, files)]),
        decode=lambda i: decode_file(files[i], 3),
        policy="mild",
        channels=3,
        native_size=size,
        ignored=tuple(ignored),
    )


def display_path(file: Path, root: Path) -> str:
    return os.fsencode(file.relative_to(root)).decode("utf-8", "backslashreplace")


def _folders(path: Path) -> list[Path]:
    return sorted((p for p in path.iterdir() if p.is_dir() and not is_junk(p.name)), key=lambda p: os.fsencode(p.name))


def _images(root: Path, top: Path, ignored: list[str]) -> list[tuple[Path, str]]:
    """(file, class folder's name), links that leave the tree refused, loops not followed."""
    out: list[tuple[Path, str]] = []
    inside = root.resolve()
    for cls in _folders(top):
        before = len(out)
        for parent, names, files in os.walk(cls, followlinks=False):
            for name in [n for n in names if is_junk(n) or os.path.islink(os.path.join(parent, n))]:
                names.remove(name)
                ignored.append(os.path.join(parent, name))
            for name in sorted(files, key=os.fsencode):
                file = Path(parent, name)
                if is_junk(name) or file.suffix.lower() not in SUFFIXES:
                    ignored.append(str(file))
                elif file.is_symlink() and file.exists() and not file.resolve().is_relative_to(inside):
                    raise DataError(f"{display_path(file, root)} links to a file outside {root}; copy it, so that the data set is whole.")
                else:
                    out.append((file, os.fsencode(cls.name).decode("utf-8", "backslashreplace")))
        if len(out) == before:
            raise DataError(f"{cls} holds no images; remove the folder, or add images of that class.")
    return out


def _groups(path: Path, files: list[Path]) -> np.ndarray | None:
    table = path / "groups.csv"
    if not table.is_file():
        return None
    with open(table, newline="", encoding="utf-8-sig") as handle:
        rows = list(csv.DictReader(handle))
    if not rows or not {"file", "group"} <= set(rows[0]):
        raise DataError(f"{table}: needs the columns file and group.")
    group_of = {r["file"]: r["group"] for r in rows}
    if missing := [display_path(f, path) for f in files if display_path(f, path) not in group_of]:
        raise DataError(f"{table}: {len(missing)} images have no group: {', '.join(missing[:10])}.")
    names = sorted(set(group_of.values()))
    return np.array([names.index(group_of[display_path(f, path)]) for f in files], np.int64)
