"""The search for files that a table names: under their own names, else by the rest of their names in a folder that was given."""

import filecmp
import functools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from study.console.text import shown
from study.datasets.imagefiles import SUFFIXES, WITH_PACKAGE, is_junk, no_image
from study.datasets.spec import some
from study.errors import DataError
from study.question.naming import DataName

IMAGES = ("", "images", "imgs", "img", "data", "photos", "pictures")  # folders beside the table where files are looked for, in this order
KNOWN = SUFFIXES | set(WITH_PACKAGE)
MOST = 200_000  # files below a folder that are looked through

Locate = Callable[[str], Path | None]


def as_named(table: Path, images: str | None) -> Locate:
    """Return a function that finds a listed file: beside the table, in a folder of images there, or in the one given.

    A name without suffix fits any suffix. Raises DataError for a name that fits two different files.
    """
    base = table.parent
    places = [base / images] if images else _beside(table)

    @functools.cache
    def by_stem(folder: Path) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = {}
        for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in KNOWN and not is_junk(name):
                stems.setdefault(stem, []).append(name)
        return stems

    def candidates(place: Path, plain: str, whole: bool) -> list[Path]:
        file = place / plain
        others = [] if whole else [file.with_name(name) for name in by_stem(file.parent).get(file.name, [])]
        return [p for p in others or [file] if p.is_file()]

    def locate(text: str) -> Path | None:
        plain = text if "\\" not in text or (base / text).exists() else text.replace("\\", "/")
        whole = os.path.splitext(plain)[1].lower() in KNOWN
        try:
            here = places[:1] if os.path.isabs(plain) else places
            found = [p for place in here for p in candidates(place, plain, whole)]
            others = [p for p in found[1:] if not (p.samefile(found[0]) or filecmp.cmp(p, found[0], shallow=False))]
        except (OSError, ValueError):  # a name too long, or with a NUL
            return None
        if others:
            raise DataError(
                f"{table}: {shown(text)} is the name of two files, {found[0]} and {others[0]}; "
                "say which: with its suffix and folder in the table, or its folder as ?images=FOLDER."
            )
        return found[0] if found else None

    return locate


def by_what_is_left(listed: Sequence[str], folder: Path) -> dict[str, Path]:
    """Return the file below `folder` of each name, without the folders that all names begin with, else without all folders.

    Case and composition do not matter. A name that fits several files gets none.
    """
    below = _below(folder)
    parts = {text: _parts(text) for text in dict.fromkeys(listed)}
    shared = os.path.commonprefix([p[:-1] for p in parts.values()]) if parts else []
    tries = [{text: below.get("/".join(p[k:])) for text, p in parts.items()} for k in range(len(shared) + 1)]
    tails = Counter(p[-1] for p in parts.values())
    flat = {text: below.get(p[-1]) if tails[p[-1]] == 1 else None for text, p in parts.items()}  # what lies in it directly
    found = [{text: file for text, file in one.items() if file} for one in (*tries, flat)]
    return max(found, key=len) if found else {}


def why_none(table: Path, listed: Sequence[str], data: DataName) -> str:
    """Return the reason and the way out where none of the files `listed` exists."""
    if urls := [text for text in listed if re.match(r"[a-z][a-z0-9+]+://", text, re.IGNORECASE)]:
        return f"its images are addresses ({shown(urls[0])}). Fetch them into a folder, and name the files in the table"
    images = data.options.get("images")
    gone = f"{some([shown(text) for text in listed], 3)} {'are' if len(listed) > 1 else 'is'} not there"
    if images:
        place = table.parent / images
        if not place.is_dir():
            return f"?images={images} is no folder ({place}): give the one that holds the images"
        own = sorted(str(p.relative_to(place)) for p in set(_below(place).values()))
        held = f"there {'are' if len(own) > 1 else 'is'} {some(own, 2)}" if own else "there is no image"
        return f"{gone}. In {place} {held}. Call the files in the table as they are called there, or give the folder that holds them"
    best: dict[str, Path] = {}
    for place in _likely(table, listed):
        found = by_what_is_left(listed, place)
        if len(found) >= len(best) and found:  # the deepest of those that do
            best, where = found, place
    if best:
        return (
            f"{gone}, but {len(best)} of {len(listed)} lie in {where} by what is left of their names: take them with "
            f"'{data.given(images=os.path.relpath(where, table.parent)).dataset}'"
        )
    for place in (*_beside(table)[1:], table.parent):
        if own := sorted(name for name in os.listdir(place) if no_image(name) is None):
            return (
                f"{gone}. In {place} there {'are' if len(own) > 1 else 'is'} {some([shown(name) for name in own], 2)}. Call the "
                "files in the table as they are called there, or give the folder that holds them as ?images=FOLDER"
            )
    return (
        f"{gone}, nor in {some([str(p) for p in _beside(table)[1:]] or ['a folder images'], 3)}: give the folder that holds "
        "them as ?images=FOLDER"
    )


def _beside(table: Path) -> list[Path]:
    return [place for folder in IMAGES if (place := table.parent / folder).is_dir()]


def _likely(table: Path, listed: Sequence[str]) -> list[Path]:
    """Return folders below the table's own with a file named as one of the first listed, those nearest to it first."""
    base = table.parent
    wanted = {_parts(text)[-1] for text in listed[:20]} - {""}
    places: set[Path] = set()
    for file in set(_below(base).values()):
        if wanted & {_key(file.name), _key(file.stem), _number(_key(file.stem))}:
            places |= {p for p in file.parents if p == base or p.is_relative_to(base)}
    return sorted(places, key=lambda p: (len(p.parts), str(p)))


def _parts(text: str) -> list[str]:
    """Return the folders and the name in a listed path of any system, in the form in which they are compared."""
    return [_key(part) for part in re.split(r"[\\/]+", text.strip()) if part not in ("", ".")] or [""]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _number(name: str) -> str:
    """Return a number without leading zeros, as other tables name the same file: 000000000139 is 139."""
    folder, slash, stem = name.rpartition("/")
    return f"{folder}{slash}{stem.lstrip('0') or '0'}" if stem.isascii() and stem.isdigit() else name


def _below(folder: Path) -> Mapping[str, Path]:
    """Return images below a folder by their path in it, in the form in which paths are compared.

    The path without suffix is a key too, and so is the number that it is, where no other image has that name. The value is None for a key
    of two images.
    """
    found: dict[str, list[Path]] = {}
    numbers: dict[str, list[Path]] = {}
    count = 0
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not is_junk(f))
        for name in sorted(f for f in files if no_image(f) is None):
            file = Path(here, name)
            key = "/".join(map(_key, file.relative_to(folder).parts))
            for one in dict.fromkeys((key, os.path.splitext(key)[0])):
                found.setdefault(one, []).append(file)
            numbers.setdefault(_number(os.path.splitext(key)[0]), []).append(file)
            count += 1
        if count > MOST:
            break
    return {key: files[0] for key, files in (numbers | found).items() if len(files) == 1}
