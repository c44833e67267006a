"""FER2013 in every form people have it: grey 48 x 48 faces, seven expressions (Goodfellow et al. 2013, arXiv 1307.0414).

Official split: train on Training, select on PublicTest, report PrivateTest.
"""

import bz2
import csv
import gzip
import hashlib
import io
import lzma
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from study.datasets.imagefiles import JUNK, check_headers, decode_file, fingerprint, identity, is_junk, no_image, refuse
from study.datasets.spec import ImageTable, left_out
from study.errors import DataError

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FERPLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
USAGE = {"Training": 0, "PublicTest": 1, "PrivateTest": 2}
SIDE = 48
OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv", "train.csv")


def read(root: Path | None, protocol: str, fold: int) -> ImageTable:
    """Looks into ROOT/fer2013, then ROOT. Raises DataError saying what was looked for and what is there."""
    del fold
    if root is None:
        raise DataError(
            "fer2013 needs --data ROOT (or STUDY_DATA) with ROOT/fer2013/fer2013.csv; `python -m study.datasets fetch fer2013` says where to get it."
        )
    folder = root / "fer2013" if (root / "fer2013").is_dir() else root
    for name in CSV_NAMES:
        for suffix in ("", *OPENERS):
            if (path := folder / (name + suffix)).is_file():
                return read_csv(path, protocol)
    if (folder / "FER2013Train" / "label.csv").is_file():
        return read_ferplus_folders(folder)
    if (folder / "train").is_dir():
        return read_folders(folder)
    there = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) if folder.is_dir() else "no such folder"
    raise DataError(
        f"No FER2013 in {folder}: looked for {', '.join(CSV_NAMES)} (also .gz, .bz2, .xz), train/<class>/*.jpg and FER2013Train/label.csv; "
        f"found {there or 'nothing'}. `python -m study.datasets fetch fer2013` says where to get it."
    )


# ---- CSV: fer2013.csv, icml_face_data.csv, train.csv ---------------------------------------------------


def read_csv(path: Path, protocol: str = "official") -> ImageTable:
    """Every value is checked; a wrong one is named with row, column and value. Nothing wraps around."""
    text, digest = _text(path)
    rows = _rows(path, text)
    header = [h.strip().lstrip("\ufeff").strip('"').lower() for h in rows[0][1]] if rows else []
    if "pixels" not in header or "emotion" not in header:
        raise DataError(f"{path}: the header is {','.join(header)[:80]!r}; needs the columns emotion and pixels (and Usage).")
    column = {name: header.index(name) for name in ("emotion", "pixels", "usage") if name in header}
    images = np.empty((len(rows) - 1, SIDE, SIDE, 1), np.uint8)
    labels, usages = np.empty(len(rows) - 1, np.int64), []
    for k, (line, fields) in enumerate(rows[1:]):
        if len(fields) != len(header):
            raise DataError(f"{path}:{line}: has {len(fields)} columns, the header {len(header)}; the file may be cut short, get it again.")
        labels[k] = _whole(fields[column["emotion"]], 6, path, line, "emotion")
        images[k, :, :, 0] = _pixels(fields[column["pixels"]], path, line)
        usages.append(fields[column["usage"]].strip() if "usage" in column else "")
    if not len(labels):
        raise DataError(f"{path}: holds a header and no image; get it again.")
    split, note = _usage_split(path, rows, usages, labels, "usage" in column)
    ids = tuple(f"{path.name}:{line}" for line, _ in rows[1:])
    classes: tuple[str, ...] = CLASSES
    if protocol == "ferplus":
        labels, split, classes = _ferplus(path.parent / "fer2013new.csv", labels, split)
        note += ", FER+ majority labels"
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
    )


def _text(path: Path) -> tuple[str, str]:
    opener: Any = OPENERS.get(path.suffix, open)
    try:
        with opener(path, "rb") as file:
            data: bytes = file.read()
    except (OSError, EOFError, lzma.LZMAError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error}); the file may be cut short, get it again.") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path} is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8).")
    if b"\0" in data:
        raise DataError(f"{path} holds NUL bytes at byte {data.index(0)}; it is damaged or no CSV, get it again.")
    try:
        return data.decode("utf-8-sig"), hashlib.sha256(data).hexdigest()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); it is damaged or no CSV, get it again.") from None


def _rows(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """(line number, fields) of every row that is not empty."""
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        return [(reader.line_num, fields) for fields in reader if any(f.strip() for f in fields)]
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}; the file is damaged, get it again.") from None


def _whole(text: str, most: int, path: Path, line: int, column: str) -> int:
    value = text.strip()
    if not (value.isascii() and value.isdigit() and len(value) <= 3 and int(value) <= most):
        raise DataError(f"{path}:{line}: {column} is {value[:40]!r}; must be a whole number 0..{most}.")
    return int(value)


def _pixels(text: str, path: Path, line: int) -> np.ndarray:
    """uint8 [48, 48]. The fast path accepts only digits and blanks; what it refuses is looked at value by value."""
    values = text.split()
    if len(values) != SIDE * SIDE:
        raise DataError(f"{path}:{line}: pixels holds {len(values)} values; must be {SIDE * SIDE} (48 x 48).")
    if text.isascii() and text.replace(" ", "").isdigit():
        numbers = np.array(values, dtype=np.float64) if max(map(len, values)) > 3 else np.fromstring(text, dtype=np.int64, sep=" ")
        if numbers.max() <= 255:
            return numbers.astype(np.uint8).reshape(SIDE, SIDE)
    numbers = np.array([_whole(v, 255, path, line, f"pixels[{k}]") for k, v in enumerate(values)], dtype=np.int64)
    return numbers.astype(np.uint8).reshape(SIDE, SIDE)


def _usage_split(
    path: Path, rows: list[tuple[int, list[str]]], usages: list[str], labels: np.ndarray, has_usage: bool
) -> tuple[np.ndarray, str]:
    from study.datasets.spec import stratified_split

    if not has_usage:
        return _own_split(path, labels, stratified_split), "no Usage column: own stratified 60/20/20 split"
    known = Counter(usages)
    if unknown := sorted(set(known) - set(USAGE)):
        row = next(line for (line, _), u in zip(rows[1:], usages, strict=True) if u == unknown[0])
        raise DataError(f"{path}:{row}: Usage is {unknown[0]!r}; must be one of {', '.join(USAGE)}.")
    if set(known) == {"Training"}:
        return _own_split(path, labels, stratified_split), "only Training: own stratified 60/20/20 split"
    if missing := sorted(set(USAGE) - set(known)):
        raise DataError(f"{path}: Usage never says {', '.join(missing)}; the official split needs all of {', '.join(USAGE)}.")
    return np.array([USAGE[u] for u in usages], np.int8), "official split"


def _own_split(path: Path, labels: np.ndarray, stratified_split) -> np.ndarray:  # type: ignore[no-untyped-def]
    if np.bincount(labels, minlength=7)[np.unique(labels)].min() < 5:
        raise DataError(f"{path}: without the official split each expression needs at least 5 images to be split.")
    return stratified_split(labels, None, 0)  # type: ignore[no-any-return]


def _ferplus(path: Path, labels: np.ndarray, split: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """FER+ majority rule (Barsoum et al. 2016): classes with one vote are dropped; the winner must have more than half of the
    rest; unknown, non-faces and undecided images are left out."""
    if not path.is_file():
        raise DataError(f"fer2013@ferplus needs {path} (FER+ votes, from microsoft/FERPlus) beside the CSV.")
    rows = _rows(path, _text(path)[0])
    if len(rows) - 1 != len(labels):
        raise DataError(
            f"{path} has {len(rows) - 1} rows, the images are {len(labels)}; both must be the complete originals in their order."
        )
    votes = np.array([[_whole(v, 10, path, line, "votes") for v in fields[2:12]] for line, fields in rows[1:]])
    votes = np.where(votes > 1, votes, 0)
    best, total = votes.argmax(axis=1), votes.sum(axis=1)
    sure = (votes.max(axis=1) > total / 2) & (best < len(FERPLUS))
    return np.where(sure, best, 0), np.where(sure, split, -1).astype(np.int8), FERPLUS


# ---- folders -------------------------------------------------------------------------------------------


def read_folders(folder: Path) -> ImageTable:
    """train/<class>/Training_*.jpg and test/<class>/{PublicTest,PrivateTest}_*.jpg: the file names keep the official split."""
    paths, labels, split = [], [], []
    ignored: list[tuple[str, str]] = []
    for top in ("train", "test"):
        for sub in sorted(p for p in (folder / top).iterdir() if p.is_dir()) if (folder / top).is_dir() else []:
            if is_junk(sub.name):
                ignored.append((str(sub.relative_to(folder)), JUNK))
                continue
            if sub.name.lower() not in CLASSES:
                raise DataError(f"{sub} is no expression; the folders must be called {', '.join(CLASSES)}.")
            for path in sorted(sub.iterdir()):
                usage = path.name.partition("_")[0]
                if (reason := no_image(path.name)) is not None:
                    ignored.append((str(path.relative_to(folder)), reason))
                    continue
                if usage not in USAGE:
                    raise DataError(
                        f"{path}: the name must begin with {', '.join(USAGE)}, or the official split is lost; use folder:{folder} for your own split."
                    )
                paths.append(path)
                labels.append(CLASSES.index(sub.name.lower()))
                split.append(USAGE[usage])
    return _from_files(folder, "train/<class>, test/<class>", paths, labels, split, CLASSES, ignored)


def read_ferplus_folders(folder: Path) -> ImageTable:
    """FERPlus's own layout: FER2013Train, FER2013Valid, FER2013Test, each with label.csv (name, box, votes)."""
    paths, labels, split = [], [], []
    for k, part in enumerate(("FER2013Train", "FER2013Valid", "FER2013Test")):
        table = folder / part / "label.csv"
        for line, fields in _rows(table, _text(table)[0]):
            votes = np.array([_whole(v, 10, table, line, "votes") for v in fields[2:12]])
            votes = np.where(votes > 1, votes, 0)
            if votes.max() > votes.sum() / 2 and votes.argmax() < len(FERPLUS):
                paths.append(folder / part / fields[0])
                labels.append(int(votes.argmax()))
                split.append(k)
    return _from_files(folder, "FERPlus folders", paths, labels, split, FERPLUS, [])


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
