"""A user's own folder of images, `folder:PATH`: train/ val/ test/ inside (or train and one of them), or one folder per class, split by
us.

A file PATH/groups.csv (columns file,group) keeps images of one group (a patient, a plant, a session) in one split.
"""

import difflib
import os
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from study.console.text import shown
from study.datasets.called import as_read, look_alike, missing
from study.datasets.imagefiles import JUNK, SUFFIXES, is_junk, no_image
from study.datasets.layout import NotByClass, check_beside, check_kinds, check_layout
from study.datasets.spec import SPLIT_NAMES, SPLITS, TRAIN, ImageTable, display_name, left_out, some
from study.datasets.tables import read_columns
from study.datasets.user_table import Ignored, found_file, make_table
from study.errors import DataError
from study.question.naming import DataName

GROUPS = "groups.csv"
LINK = "a link to a folder"
BESIDE_SPLITS, BESIDE_CLASSES = "beside the splits", "beside the class folders"


def read(path: Path, fold: int) -> ImageTable:
    """Read the folder. Raises DataError for faults that would mislead: empty classes, links out of the tree, many unreadable images."""
    check_path(path, "folder")
    ignored: Ignored = []
    given = _given(path, ignored)
    tops = given if given is not None else {0: path}
    check_kinds(tops.values())
    in_order = sorted(tops.items(), key=lambda item: item[1].name.lower())
    folders = [(cls, k) for k, top in in_order for cls in _classes(path, top, ignored)]
    name_of = _names(path, [cls for cls, _ in folders])
    inside = {cls: _images(path, cls, ignored) for cls, _ in folders}
    notes = check_layout(path, inside, given is not None)
    found = [(file, name_of[cls], k) for cls, k in folders for file in inside[cls]]
    if not found:
        raise NotByClass(f"{path} holds no images. Expected {path}/<class>/*.jpg (also {', '.join(sorted(SUFFIXES))}).")
    if empty := set(tops) - {k for _, _, k in found}:
        top = tops[min(empty)]
        direct = sum(entry.is_file() and no_image(entry.name) is None for entry in _entries(top))
        what = f"no image of a class ({direct} lie in it directly)" if direct else "no image"
        raise DataError(
            f"{path}: the {SPLITS[min(empty)]} split holds {what}. Add some, or take its folder away to have it cut from train."
        )
    raw_classes = sorted({cls for _, cls, _ in found})
    if len(raw_classes) < 2:
        only = f"{display_name(raw_classes[0])}{left_out(ignored)}"
        raise NotByClass(f"{path} holds one class only ({only}). There is nothing to tell apart.")
    groups = _groups(path, [file for file, _, _ in found])
    notes += [f"group {GROUPS}"] if groups is not None else []
    images = [
        found_file(
            file,
            id=display_path(file, path),
            label=cls,
            split=None if given is None else k,
            group=None if groups is None else groups[n],
        )
        for n, (file, cls, k) in enumerate(found)
    ]
    return make_table(
        DataName(kind="folder", where=str(path)).dataset,
        "folder",
        images,
        ignored,
        where=str(path),
        groups_in=str(path / GROUPS),
        notes=notes,
        fold=fold,
    )


def display_path(file: Path, root: Path) -> str:
    return _text(file.relative_to(root))


def _text(path: Path | str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def check_path(path: Path, kind: str) -> None:
    """Raise DataError for a path that cannot be written into results, or is no folder ("folder") or no file ("table")."""
    if "\0" not in str(path) and sys.getfilesystemencoding() != "utf-8" and not _text(path).isascii():
        raise DataError(
            f"{kind}:{_text(path)}: under this locale Python reads names of files as {sys.getfilesystemencoding()}. Set PYTHONUTF8=1, "
            "then run the same command again."
        )
    if "\0" in str(path) or _text(path) != str(path):
        raise DataError(
            f"{kind}:{_text(path)}: the path must be UTF-8 without NUL, for it is written into every result. Rename the "
            f"{kind if kind == 'folder' else 'file'}."
        )
    if kind == "folder" and not path.is_dir():
        raise DataError(f"folder:{path}: {_what(path)}. Give a folder of class folders, or of train/, val/ and test/.")


TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst")


def _what(path: Path) -> str:
    """Return what a path is that is no folder, in words."""
    if not path.exists():
        return f"does not exist{beside(path)}"
    if path.suffix.lower() in ARCHIVES:
        return "is an archive. Unpack it"
    return f"is a file. A table of labels is table:{path}" if path.suffix.lower() in TABLES else "is a file"


def beside(path: Path) -> str:
    """Return a hint at files beside a missing path whose names are nearly the same."""
    try:
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), 2)
    except OSError:
        return f" ({path.parent} neither)" if path.parent != path else ""
    return f" ({shown(' and '.join(near))} {'do' if len(near) > 1 else 'does'})" if near else ""


def _given(path: Path, ignored: Ignored) -> dict[int, Path] | None:
    """Return the folder of each split by its number, or None where there are class folders only."""
    found: dict[int, list[Path]] = defaultdict(list)
    others: list[Path] = []
    for entry in _entries(path):
        number = SPLIT_NAMES.get(entry.name.lower()) if entry.is_dir() else None
        (others if number is None else found[number]).append(entry)
    if not found:
        return None
    for number, folders in found.items():
        if len(folders) > 1:
            raise DataError(f"{path} has {' and '.join(f.name for f in folders)}, each for the {SPLITS[number]} split. Keep one of them.")
        _check_link(path, folders[0])
    if TRAIN not in found:
        names = ", ".join(sorted(folders[0].name for folders in found.values()))
        raise DataError(f"{path} has {names} but no {SPLITS[TRAIN]}. Give all three, train and one of the others, or only class folders.")
    classes = {c.name for folders in found.values() for c in _entries(folders[0]) if c.is_dir()}
    for other in others:
        cost = check_beside(path, other, classes) if not (is_junk(other.name) or other.is_symlink()) and other.is_dir() else ""
        if other != path / GROUPS:
            ignored.append((display_path(other, path), JUNK if is_junk(other.name) else BESIDE_SPLITS + cost))
    return {number: folders[0] for number, folders in found.items()}


def _classes(root: Path, top: Path, ignored: Ignored) -> list[Path]:
    """Return the class folders in `top`; none may lie outside the tree or hold the others."""
    out = []
    for entry in _entries(top):
        if is_junk(entry.name):
            ignored.append((display_path(entry, root), JUNK))
        elif entry.is_dir():
            _check_link(root, entry)
            out.append(entry)
        elif entry != root / GROUPS:
            ignored.append((display_path(entry, root), BESIDE_CLASSES))
    return out


def _names(root: Path, folders: list[Path]) -> dict[Path, str]:
    """Return the class of every class folder; the same name in several splits, composed or not, is one class.

    Raises DataError for two folders that would be one class, or two classes that read alike (`datasets.called`).
    """
    first: dict[str, Path] = {}
    for folder in folders:
        other = first.setdefault(as_read(_text(folder.name)), folder)
        same = unicodedata.normalize("NFC", folder.name) == unicodedata.normalize("NFC", other.name)
        if not same or (other != folder and other.parent == folder.parent):
            raise look_alike(other.name, folder.name, str(root))
    return {folder: unicodedata.normalize("NFC", _text(folder.name)) for folder in folders}


def _images(root: Path, cls: Path, ignored: Ignored) -> list[Path]:
    """Return every image below a class folder. Links that leave the tree are refused, loops not followed."""
    out: list[Path] = []
    for parent, names, files in os.walk(cls, followlinks=False, onerror=_refuse):
        for name in [n for n in names if is_junk(n) or os.path.islink(os.path.join(parent, n))]:
            names.remove(name)
            ignored.append((display_path(Path(parent, name), root), JUNK if is_junk(name) else LINK))
        names.sort(key=os.fsencode)
        for name in sorted(files, key=os.fsencode):
            file = Path(parent, name)
            if (reason := no_image(name)) is not None:
                ignored.append((display_path(file, root), reason))
            else:
                _check_link(root, file)
                out.append(file)
    if not out:
        kinds = Counter(os.path.splitext(name)[1].lower() or "without suffix" for _, _, files in os.walk(cls) for name in files)
        instead = f" ({', '.join(f'{count} {kind}' for kind, count in kinds.most_common(3))})" if kinds else ""
        raise DataError(f"{cls} holds no images{instead}. Remove the folder, or add images of that class.")
    return out


def _check_link(root: Path, entry: Path) -> None:
    """Raise DataError for a link out of the tree, or to a folder that holds the link. A broken link is reported when it is opened."""
    if entry.is_symlink() and entry.exists():
        target, what = entry.resolve(), "folder" if entry.is_dir() else "file"
        if not target.is_relative_to(root.resolve()):
            raise DataError(f"{display_path(entry, root)} links to a {what} outside {root}; copy it, so that the data set is whole.")
        if entry.parent.resolve().is_relative_to(target):
            raise DataError(f"{display_path(entry, root)} links to a folder that holds it; remove the link.")


def _entries(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir(), key=lambda p: os.fsencode(p.name))


def _refuse(error: OSError) -> None:
    raise error


def _listed(text: str, root: Path) -> str:
    """Return a path of groups.csv as `display_path` would write it: from `root` on, with either kind of slash."""
    plain = text if "\\" not in text or (root / text).exists() else text.replace("\\", "/")
    return os.path.normpath(os.path.relpath(plain, root.absolute()) if os.path.isabs(plain) else plain)


def _groups(path: Path, files: list[Path]) -> list[str] | None:
    """Return the group of each file, from groups.csv where there is one. Raises DataError naming its row."""
    table = path / GROUPS
    if not os.path.lexists(table):
        return None
    group_of: dict[str, tuple[str, int]] = {}
    for line, row in read_columns(table, ("file", "group"))[0]:
        for column, value in row.items():
            if missing(value):
                raise DataError(f"{table}:{line}: {column} is {value!r}. It must be a name.")
        file = _listed(row["file"], path)
        group, first = group_of.setdefault(file, (row["group"], line))
        if group != row["group"]:
            raise DataError(f"{table}:{line}: {row['file']} is in group {row['group']} here and in {group} at line {first}. Keep one.")
    names = [display_path(f, path) for f in files]
    if alone := [n for n in names if n not in group_of]:
        unknown = [row for row in group_of if row not in set(names)]
        instead = f" Its rows name {some(unknown, 2)}, which {'is' if len(unknown) == 1 else 'are'} not here." if unknown else ""
        raise DataError(
            f"{table}: {len(alone)} image{'s have' if len(alone) > 1 else ' has'} no group: {some(alone, 3)}.{instead} Name each "
            f"by its path from {shown(path.name)} on."
        )
    return [group_of[n][0] for n in names]
