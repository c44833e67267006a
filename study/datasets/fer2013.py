"""FER2013 in all its usual file formats: grey 48 x 48 faces, seven expressions (Goodfellow et al. 2013, arXiv 1307.0414).

Official split: train on Training, select on PublicTest, report PrivateTest.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from study.datasets.archives import OPENERS
from study.datasets.imagefiles import JUNK, check_headers, decode_file, fingerprint, identity, is_junk, no_image, refuse
from study.datasets.spec import TRAIN, ImageTable, left_out, stratified_split
from study.datasets.tables import bare_name, check_length, read_columns, read_rows, whole
from study.errors import DataError

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FERPLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
AS_FER = (6, 3, 5, 4, 0, 1, 2, -1, -1, -1)  # FERPLUS, unknown and non-face as FER2013 numbers its expressions; it has no contempt
USAGE = {"Training": 0, "PublicTest": 1, "PrivateTest": 2}
SIDE = 48
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv", "train.csv")


def read(root: Path | None, protocol: str, fold: int) -> ImageTable:
    """Read ROOT/fer2013, else ROOT. Raises DataError saying what was looked for and what is there."""
    del fold
    if root is None:
        raise DataError(
            "fer2013 needs --data ROOT (or STUDY_DATA) with ROOT/fer2013/fer2013.csv; `python -m study.datasets fetch fer2013` "
            "says where to get it."
        )
    folder = root / "fer2013" if (root / "fer2013").is_dir() else root
    for name in CSV_NAMES:
        for suffix in ("", *OPENERS):
            if (path := folder / (name + suffix)).is_file():
                return read_csv(path, protocol)
    if (folder / "FER2013Train" / "label.csv").is_file():
        return read_ferplus_folders(folder, soft=protocol == "ferplus_votes")
    if (folder / "train").is_dir():
        if protocol != "official":
            raise DataError(
                f"fer2013@{protocol} needs the votes of fer2013new.csv beside fer2013.csv, or FERPlus's own folders; {folder} has "
                "train/<class>."
            )
        return read_folders(folder)
    there = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) if folder.is_dir() else "no such folder"
    raise DataError(
        f"No FER2013 in {folder}: looked for {', '.join(CSV_NAMES)} (also .gz, .bz2, .xz), train/<class>/*.jpg and "
        f"FER2013Train/label.csv. Found {there or 'nothing'}. `python -m study.datasets fetch fer2013` says where to get it."
    )


# ---- CSV: fer2013.csv, icml_face_data.csv, train.csv ---------------------------------------------------


def read_csv(path: Path, protocol: str = "official") -> ImageTable:
    """Read the CSV file. Raises DataError naming row, column and value of a wrong number; no value wraps around."""
    rows, digest = read_columns(path, ("emotion", "pixels"), ("Usage",))
    images = np.empty((len(rows), SIDE, SIDE, 1), np.uint8)
    labels = np.empty(len(rows), np.int64)
    for k, (line, row) in enumerate(rows):
        labels[k] = whole(row["emotion"], 6, path, line, "emotion")
        images[k, :, :, 0] = _pixels(row["pixels"], path, line)
    split, note = _usage_split(path, [(line, row.get("Usage")) for line, row in rows], labels)
    ids = tuple(f"{path.name}:{line}" for line, _ in rows)
    classes: tuple[str, ...] = CLASSES
    votes, soft, second = path.parent / "fer2013new.csv", None, None
    if protocol.startswith("ferplus"):
        labels, split, classes, soft = _ferplus(votes, labels, split, soft=protocol == "ferplus_votes")
        note += ", FER+ majority labels" if soft is None else ", FER+ votes as targets"
    elif votes.is_file() and (counted := _count_votes(votes, len(labels))) is not None:
        second = np.where(_sure(counted), np.array(AS_FER)[counted.argmax(axis=1)], -1)
        note += f", {int(((second >= 0) & (second != labels)).sum())} labels disputed by FER+"
    return ImageTable(
        name="fer2013",
        classes=classes,
        ids=ids,
        labels=labels,
        split=split,
        policy="mild",
        channels=1,
        native_size=SIDE,
        form=f"{path.name}, {len(labels)} faces ({note}); " + _summary(labels, split, classes),
        fingerprint=fingerprint(["fer2013", digest]),
        decode=lambda i: images[i],
        soft=soft,
        second=second,
    )


def _pixels(text: str, path: Path, line: int) -> np.ndarray:
    """Return uint8 [48, 48]. The fast path accepts only digits and blanks; other rows are checked value by value."""
    values = text.split()
    if len(values) != SIDE * SIDE:
        raise DataError(f"{path}:{line}: pixels holds {len(values)} values. It must be {SIDE * SIDE} (48 x 48).")
    if text.isascii() and text.replace(" ", "").isdigit():
        numbers = np.array(values, dtype=np.float64) if max(map(len, values)) > 3 else np.fromstring(text, dtype=np.int64, sep=" ")
        if numbers.max() <= 255:
            return numbers.astype(np.uint8).reshape(SIDE, SIDE)
    numbers = np.array([whole(v, 255, path, line, f"pixels[{k}]") for k, v in enumerate(values)], dtype=np.int64)
    return numbers.astype(np.uint8).reshape(SIDE, SIDE)


def _usage_split(path: Path, usages: list[tuple[int, str | None]], labels: np.ndarray) -> tuple[np.ndarray, str]:
    known = Counter(usage for _, usage in usages if usage is not None)
    if not known:
        return _own_split(path, labels), "no Usage column: own stratified 60/20/20 split"
    if wrong := next(((line, usage) for line, usage in usages if usage not in USAGE), None):
        raise DataError(f"{path}:{wrong[0]}: Usage is {str(wrong[1])[:40]!r}. It must be one of {', '.join(USAGE)}.")
    if set(known) == {"Training"}:
        return _own_split(path, labels), "only Training: own stratified 60/20/20 split"
    if missing := sorted(set(USAGE) - set(known)):
        raise DataError(f"{path}: Usage never says {', '.join(missing)}. The official split needs all of {', '.join(USAGE)}.")
    return np.array([USAGE[str(usage)] for _, usage in usages], np.int8), "official split"


def _own_split(path: Path, labels: np.ndarray) -> np.ndarray:
    if np.bincount(labels, minlength=7)[np.unique(labels)].min() < 5:
        raise DataError(f"{path}: without the official split each expression needs at least 5 images to be split.")
    return stratified_split(labels, None, 0, what=str(path))


def _ferplus(
    path: Path, labels: np.ndarray, split: np.ndarray, *, soft: bool
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], np.ndarray | None]:
    """Return (labels, split with -1 for images left out, class names, shares of votes) by the FER+ majority rule (Barsoum et al. 2016).

    Classes with one vote are dropped; the winner must have more than half of the rest; unknown, non-faces and undecided images are left
    out. `soft`: the shares of the votes for expressions too, float32 [N, 8]; then training also keeps images without a majority.
    """
    if not path.is_file():
        raise DataError(f"fer2013@ferplus needs {path} (FER+ votes, from microsoft/FERPlus) beside the CSV.")
    votes = _count_votes(path, len(labels))
    if votes is None:
        raise DataError(
            f"{path} has another number of rows than the images, which are {len(labels)}. Both must be the complete originals in "
            "their order."
        )
    best, kept = votes.argmax(axis=1), _sure(votes)
    if not soft:
        return np.where(kept, best, 0), np.where(kept, split, -1).astype(np.int8), FERPLUS, None
    kept |= (split == TRAIN) & (best < len(FERPLUS)) & (votes.sum(axis=1) > 0)
    expressions = votes[:, : len(FERPLUS)].astype(np.float32)
    shares = expressions / np.maximum(expressions.sum(axis=1, keepdims=True), 1)
    return np.where(kept, best, 0), np.where(kept, split, -1).astype(np.int8), FERPLUS, shares


def _count_votes(path: Path, images: int) -> np.ndarray | None:
    """Return int64 [images, 10], single votes dropped; None where the table has another number of images."""
    rows, _ = read_rows(path)
    if len(rows) - 1 != images:
        return None
    votes = np.array([_votes(path, line, fields) for line, fields in rows[1:]])
    return np.where(votes > 1, votes, 0)


def _sure(votes: np.ndarray) -> np.ndarray:
    """Return bool [N]: one expression has more than half of the votes."""
    most: np.ndarray = (votes.max(axis=1) > votes.sum(axis=1) / 2) & (votes.argmax(axis=1) < len(FERPLUS))
    return most


def _votes(path: Path, line: int, fields: list[str]) -> np.ndarray:
    """Return int64 [10] of a row of 12: usage or name, name or box, then the votes."""
    check_length(path, line, fields, 12)
    return np.array([whole(v, 10, path, line, "votes") for v in fields[2:]])


# ---- folders -------------------------------------------------------------------------------------------


def read_folders(folder: Path) -> ImageTable:
    """Read train/<class>/Training_*.jpg and test/<class>/{PublicTest,PrivateTest}_*.jpg, whose file names keep the official split."""
    paths, labels, split = [], [], []
    ignored: list[tuple[str, str]] = []
    for top in ("train", "test"):
        for sub in sorted(p for p in (folder / top).iterdir() if p.is_dir()) if (folder / top).is_dir() else []:
            if is_junk(sub.name):
                ignored.append((str(sub.relative_to(folder)), JUNK))
                continue
            if sub.name.lower() not in CLASSES:
                raise DataError(f"{sub} is no expression. The folders must be called {', '.join(CLASSES)}.")
            for path in sorted(sub.iterdir()):
                usage = path.name.partition("_")[0]
                if (reason := no_image(path.name)) is not None:
                    ignored.append((str(path.relative_to(folder)), reason))
                    continue
                if usage not in USAGE:
                    raise DataError(
                        f"{path}: the name must begin with {', '.join(USAGE)}, or the official split is lost. Use folder:{folder} "
                        "for your own split."
                    )
                paths.append(path)
                labels.append(CLASSES.index(sub.name.lower()))
                split.append(USAGE[usage])
    return _from_files(folder, "train/<class>, test/<class>", paths, labels, split, CLASSES, ignored)


def read_ferplus_folders(folder: Path, *, soft: bool = False) -> ImageTable:
    """Read FERPlus's own layout: FER2013Train, FER2013Valid, FER2013Test, each with label.csv (name, box, votes).

    `soft`: the shares of the votes for expressions too, as training's targets.
    """
    paths, labels, split = [], [], []
    shares: list[np.ndarray] = []
    for k, part in enumerate(("FER2013Train", "FER2013Valid", "FER2013Test")):
        table = folder / part / "label.csv"
        for line, fields in read_rows(table)[0]:
            votes = _votes(table, line, fields)
            name = bare_name(fields[0].strip(), table, line, "the name")
            votes = np.where(votes > 1, votes, 0)
            undecided = soft and k == TRAIN and votes.sum() > 0  # shares say how undecided; labels that are scored must be sure
            if (votes.max() > votes.sum() / 2 or undecided) and votes.argmax() < len(FERPLUS):
                shares.append(votes[: len(FERPLUS)] / votes[: len(FERPLUS)].sum())
                paths.append(folder / part / name)
                labels.append(int(votes.argmax()))
                split.append(k)
    found = _from_files(folder, "FERPlus folders", paths, labels, split, FERPLUS, [])
    return replace(found, soft=np.array(shares, np.float32)) if soft else found


def _from_files(
    folder: Path,
    what: str,
    paths: list[Path],
    labels: list[int],
    split: list[int],
    classes: tuple[str, ...],
    ignored: list[tuple[str, str]],
) -> ImageTable:
    if not paths:
        raise DataError(f"{folder} ({what}) holds no images.")
    size, bad = check_headers(paths)
    if bad:
        raise refuse([(str(paths[k]), reason) for k, reason in bad], str(folder))
    y, s = np.array(labels, np.int64), np.array(split, np.int8)
    return ImageTable(
        name="fer2013",
        classes=classes,
        ids=tuple(str(p.relative_to(folder)) for p in paths),
        labels=y,
        split=s,
        policy="mild",
        channels=1,
        native_size=size,
        form=f"{what}, {len(paths)} faces, official split; " + _summary(y, s, classes) + left_out(ignored),
        fingerprint=fingerprint(["fer2013", *map(identity, paths)]),
        decode=lambda i: decode_file(paths[i], 1),
        ignored=tuple(ignored),
    )


def _summary(labels: np.ndarray, split: np.ndarray, classes: tuple[str, ...]) -> str:
    return "; ".join(
        f"{name} {int((split == k).sum())} ("
        + " ".join(f"{c} {int(((split == k) & (labels == i)).sum())}" for i, c in enumerate(classes))
        + ")"
        for k, name in enumerate(("train", "val", "test"))
    )
