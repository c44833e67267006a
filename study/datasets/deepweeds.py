"""DeepWeeds: 256 x 256 field photographs of eight weed species and everything else (Olsen et al. 2019, Sci Rep 9:2058).

`official` folds 0-4 are the published ones. They leak: most test images have a training image taken seconds before by the
same instrument. `session` keeps images of one recording session (same instrument, gaps of at most 15 minutes) together.
Labels come from the CSV files alone; the number in a file name is the instrument.
"""

import re
from datetime import datetime
from pathlib import Path

import numpy as np

from study.datasets.foreground import plants
from study.datasets.imagefiles import check_headers, decode_file, fingerprint, identity, no_image, refuse
from study.datasets.spec import ImageTable, Metadata, display_name, left_out, some, stratified_split
from study.datasets.tables import bare_name, read_columns, whole
from study.errors import DataError

CLASSES = (
    "Chinee apple",
    "Lantana",
    "Parkinsonia",
    "Parthenium",
    "Prickly acacia",
    "Rubber vine",
    "Siam weed",
    "Snake weed",
    "Negative",
)
NAME = re.compile(r"([0-9]{8}-[0-9]{6})-([0-9]{1,9})\.\w+")
SESSION_GAP_S = 15 * 60


def read(root: Path | None, protocol: str, fold: int) -> ImageTable:
    """Read ROOT/deepweeds, else ROOT. Raises DataError naming file, row and value."""
    if root is None:
        raise DataError(
            "deepweeds needs --data ROOT (or STUDY_DATA) with ROOT/deepweeds/images and ROOT/deepweeds/labels. See `python -m "
            "study.datasets fetch deepweeds`."
        )
    folder = root / "deepweeds" if (root / "deepweeds").is_dir() else root
    return read_from(folder, protocol, fold, name="deepweeds", classes=CLASSES)


def read_from(folder: Path, protocol: str, fold: int, *, name: str, classes: tuple[str, ...]) -> ImageTable:
    images, labels = folder / "images", folder / "labels"
    if not (images.is_dir() and (labels / "labels.csv").is_file()):
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) if folder.is_dir() else "no such folder"
        raise DataError(f"No DeepWeeds in {folder}: looked for images/ and labels/labels.csv. Found {there or 'nothing'}.")
    label_of = _labels(labels / "labels.csv", len(classes))
    official = {s: _labels(path, len(classes)) for s in ("train", "val", "test") if (path := labels / f"{s}_subset{fold}.csv").is_file()}
    if protocol == "official":
        if len(official) != 3:
            have = ", ".join(sorted(p.name for p in labels.glob("*_subset*.csv"))) or "none"
            raise DataError(f"{labels} lacks the split files of fold {fold} ({{train,val,test}}_subset{fold}.csv). Found {have}.")
        _check_disjoint(official, labels, fold)
        for part in official.values():  # the published subset files carry one correction to labels.csv
            label_of |= {n: y for n, y in part.items() if n in label_of}
    names = sorted(label_of if protocol == "session" else {n for part in official.values() for n in part})
    ignored = _check_files(images, names, labels)
    paths = [images / n for n in names]
    size, bad = check_headers(paths)
    if bad:
        raise refuse([(str(paths[k]), reason) for k, reason in bad], str(images))
    y = np.array([label_of.get(n, next((p[n] for p in official.values() if n in p), 0)) for n in names], np.int64)
    metadata = _metadata(names, images)
    groups = sessions(metadata)
    if protocol == "official":
        where = {n: k for k, s in enumerate(("train", "val", "test")) for n in official[s]}
        split = np.array([where[n] for n in names], np.int8)
        form = f"official fold {fold}"
    else:
        split = stratified_split(y, groups, seed=0, fold=fold, what=f"{name}@session")
        form = f"session split {fold} ({len(np.unique(groups))} sessions)"
    counts = "; ".join(
        f"{s} {int((split == k).sum())} (" + " ".join(f"{c} {int(((split == k) & (y == i)).sum())}" for i, c in enumerate(classes)) + ")"
        for k, s in enumerate(("train", "val", "test"))
    )
    return ImageTable(
        name=name,
        classes=classes,
        ids=tuple(names),
        labels=y,
        split=split,
        groups=groups,
        policy="strong",
        channels=3,
        native_size=size,
        form=f"{len(names)} images, {form}; {counts}" + left_out(ignored),
        fingerprint=fingerprint([name, *map(identity, paths)]),
        decode=lambda i: decode_file(paths[i], 3),
        ignored=tuple(ignored),
        metadata=metadata,
        foreground=plants(without=(classes.index("Negative"),)),
    )


def _labels(path: Path, num_classes: int) -> dict[str, int]:
    """Return file name -> label. Raises DataError naming the row."""
    found: dict[str, int] = {}
    for line, row in read_columns(path, ("Filename", "Label"))[0]:
        name = bare_name(row["Filename"], path, line, "Filename")
        label = whole(row["Label"], num_classes - 1, path, line, "Label")
        if found.setdefault(name, label) != label:
            raise DataError(f"{path}:{line}: {name} has label {label} here and {found[name]} above. Keep one.")
    return found


def _check_disjoint(official: dict[str, dict[str, int]], labels: Path, fold: int) -> None:
    seen: dict[str, str] = {}
    for split, part in official.items():
        for name in part:
            if name in seen:
                raise DataError(
                    f"{labels}: {name} is in both {seen[name]}_subset{fold}.csv and {split}_subset{fold}.csv. An image belongs to "
                    "one split."
                )
            seen[name] = split


def _check_files(images: Path, names: list[str], labels: Path) -> list[tuple[str, str]]:
    """Return the files that are not used, with the reason. Raises DataError where an image is missing."""
    there, listed = sorted(p.name for p in images.iterdir()), set(names)
    if missing := sorted(listed - {n for n in there if no_image(n) is None}):
        raise DataError(
            f"{len(missing)} of {len(names)} images listed in {labels} are not in {images}: "
            f"{some([display_name(n) for n in missing])}. Unpack all of images.zip there."
        )
    return [(n, no_image(n) or "not listed in the CSV files") for n in there if n not in listed]


def _metadata(names: list[str], images: Path) -> Metadata:
    seconds, instrument = np.empty(len(names)), np.empty(len(names), np.int64)
    for k, name in enumerate(names):
        match = NAME.fullmatch(name)
        try:
            if match is None:
                raise ValueError
            seconds[k] = datetime.strptime(match[1] + "+0000", "%Y%m%d-%H%M%S%z").timestamp()
        except ValueError:
            raise DataError(f"{images / name}: the name must be YYYYMMDD-HHMMSS-INSTRUMENT.jpg. Sessions are read from it.") from None
        instrument[k] = int(match[2])
    return Metadata(seconds=seconds, instrument=instrument)


def sessions(metadata: Metadata) -> np.ndarray:
    """Return int64 [N]: images of one instrument with gaps of at most 15 minutes form a session."""
    order = np.lexsort((metadata.seconds, metadata.instrument))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(metadata.instrument[order]) != 0) | (np.diff(metadata.seconds[order]) > SESSION_GAP_S)
    groups = np.empty(len(order), np.int64)
    groups[order] = np.cumsum(new) - 1
    return groups
