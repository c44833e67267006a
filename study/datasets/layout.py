"""Checks for folders that may not be classes: splits by another name, splits below classes, class folders within class folders."""

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from study.datasets.imagefiles import is_junk, no_image
from study.datasets.spec import SPLIT_NAMES, some
from study.errors import DataError

SPLIT_WORDS = {*SPLIT_NAMES, "trn", "dev", "devel", "development", "validate", "validating", "eval", "evaluation", "tst", "holdout"}
FILLERS = {
    "", "set", "sets", "data", "dataset", "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "split",
    "splits", "folder", "dir", "new", "my", "the", "final", "full", "all", "out", "held", "hold", "jpg", "png",
}  # fmt: skip
PICTURES = {
    "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "jpg", "jpegs", "jpegimages", "png", "rgb", "input",
    "inputs", "raw", "data",
}  # fmt: skip
BESIDE = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "annots", "seg", "segs", "segmentation", "segmentations",
    "segmentationclass", "segmentationobject", "gt", "groundtruth", "ground", "truth", "trimaps", "depth", "bbox", "bboxes",
    "boxes", "xml", "xmls", "json", "landmarks", "keypoints", "target", "targets",
}  # fmt: skip
ALIKE = 0.7  # of letters in common (difflib), from which on a name may be another's with a slip: "tets"
NAMED = "the folders of splits are called train, val (valid, validation) and test"


class NotByClass(DataError):
    """An error for a folder in which no class folders were found, or only one."""


def like_split(name: str) -> bool:
    """Return True where a folder's name means only a split: "training_set", "images-val2017", "dev"."""
    words = re.split(r"[^a-z]+", name.lower())
    words = [part for word in words for part in _apart(word)]
    said = [w for w in words if w not in FILLERS]
    return (bool(said) and all(w in SPLIT_WORDS for w in said)) or {"hold", "out"} <= set(words) or {"held", "out"} <= set(words)


def _apart(word: str) -> list[str]:
    """Return the parts of a compound word: "trainset" is two words."""
    ends = (end for end in ("set", "data", "images", "imgs") if word[: -len(end)] in SPLIT_WORDS and word.endswith(end))
    return next(([word[: -len(end)], end] for end in ends), [word])


def check_layout(root: Path, images: Mapping[Path, Sequence[Path]], given: bool) -> list[str]:
    """Return warnings about class folders that hold folders; `images`: by class folder. Raises DataError where they look like splits."""
    inner = {
        folder: Counter(file.relative_to(folder).parts[0] for file in files if file.parent != folder) for folder, files in images.items()
    }
    only = {
        folder: set(inside) for folder, inside in inner.items() if inside.total() == len(images[folder])
    }  # no image lies in them directly
    for top, folders in _by_top(images).items():
        if not given and (named := [f.name for f in folders if like_split(f.name)]):
            raise _refuse(root, named, "would be classes, and their names are those of splits")
        if twice := [f.name for f in folders if f in only and len(only[f] & {g.name for g in folders}) > 1]:
            raise _refuse(
                root, twice, f"would be classes, and hold folders named as the classes beside them ({some([f.name for f in folders], 4)})"
            )
        if below := {name for f in folders for name in inner[f] if like_split(name)}:
            raise NotByClass(str(_refuse(root, sorted(below), "lie in class folders. Put them above these")))
        same = set.intersection(*(only.get(f, set()) for f in folders)) if len(folders) > 1 else set()
        if len(same) > 1 and not any(re.search(r"\d", name) for name in same):
            what = f"would be classes, and all of them hold the same folders ({some(sorted(same), 4)})"
            raise _refuse(top, [f.name for f in folders], f"{what}. Are these the classes?")
    names = sorted({name for inside in inner.values() for name in inside})
    count = sum(inside.total() for inside in inner.values())
    few = (
        f"{count} image{'s lie' if count != 1 else ' lies'} in folders within a class folder, and "
        f"{'have' if count != 1 else 'has'} its class"
    )
    return [f"{few} ({some(names, 5)})"] if count else []


def check_kinds(tops: Iterable[Path]) -> None:
    """Raise DataError where the folders of images and of their masks, labels or the like would be the classes."""
    for top in tops:
        words = {f.name: set(re.split(r"[^a-z]+", f.name.lower())) - {""} for f in sorted(top.iterdir()) if f.is_dir()}
        pictures = [name for name, said in words.items() if said and said <= PICTURES]
        beside = [name for name, said in words.items() if said & BESIDE and said <= BESIDE | PICTURES]
        if pictures and beside:
            raise DataError(
                f"{top}: {some([*pictures, *beside], 4)} would be classes, and their names say what the files are, not what is on "
                "them. Put the images of each class into a folder of its name, or say each image's class in a table (table:PATH)."
            )


def check_beside(root: Path, folder: Path, classes: set[str]) -> str:
    """Return a warning about the images lost in a folder beside those of the splits. Raises DataError where it looks like a split."""
    count = images_below(folder)
    if not count:
        return ""
    own = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    slip = difflib.get_close_matches(folder.name.lower(), SPLIT_WORDS, 1, ALIKE) if own & classes else []
    if like_split(folder.name) or slip:
        raise _refuse(root, [folder.name], f"lies beside the splits with {count} image{'s' * (count != 1)} that would be left out")
    return f", {count} image{'s' * (count != 1)} in it"


def images_below(folder: Path) -> int:
    """Return the number of files that are named as images are; links are not followed."""
    count = 0
    for _, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not is_junk(f)]
        count += sum(no_image(f) is None for f in files)
    return count


def _by_top(images: Mapping[Path, Sequence[Path]]) -> dict[Path, list[Path]]:
    tops: dict[Path, list[Path]] = {}
    for folder in images:
        tops.setdefault(folder.parent, []).append(folder)
    return tops


def _refuse(root: Path, names: Sequence[str], why: str) -> DataError:
    return DataError(
        f"{root}: {some(list(names), 4)} {why}. {NAMED.capitalize()}: rename or move what is one. Where it is none, say each "
        "image's class in a table (table:PATH)."
    )
