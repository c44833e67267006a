"""Data sets inside data sets, as torch's Subset and ConcatDataset wrap them: the item's owner, its classes, its file."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from study.datasets.no_images import said, way_out
from study.errors import ConfigError, DataError
from study.inference import pictures

TURNED = "lies turned in its file"
LOADERS = ("default_loader", "pil_loader")  # torchvision's: RGB of whatever the file holds


def innermost(part: Any, k: int) -> tuple[Any, int]:
    """Return the data set that has the image at `k`, and its place there, looking through torch's wrappers."""
    while type(part).__name__ in ("Subset", "ConcatDataset"):
        if hasattr(part, "indices"):
            part, k = part.dataset, int(part.indices[k])
        else:
            before = [0, *part.cumulative_sizes]
            place = int(np.searchsorted(part.cumulative_sizes, k, side="right"))
            part, k = part.datasets[place], k - before[place]
    return part, k


def classes_of(part: Any) -> Sequence[str] | None:
    """Return the data set's own class names, or those of what it wraps. Raises ConfigError where it wraps data sets of different
    classes."""
    for _ in range(20):
        own = getattr(part, "classes", None)
        if own is not None:
            return in_order(own)
        parts = getattr(part, "datasets", None)
        if isinstance(parts, list | tuple) and parts:
            known = [classes_of(p) for p in parts]
            if any(k != known[0] for k in known):
                raise ConfigError("own_dataset: the data sets that are joined have different classes. Say them with classes=[...].")
            return known[0]
        part = getattr(part, "dataset", None)
        if part is None:
            return None
    return None


def in_order(classes: Any) -> list[str]:
    """Return class names by their number, from a list, or from a mapping in either direction. Raises ConfigError for other values."""
    if isinstance(classes, Mapping):
        numbered = all(isinstance(value, int) for value in classes.values())
        by_number = {value: key for key, value in classes.items()} if numbered else dict(classes)
        if len(by_number) < len(classes) or set(by_number) != set(range(len(by_number))):
            raise ConfigError(f"own_dataset: classes numbers {len(classes)} names not from 0 on, each once. Give a list of names.")
        classes = [by_number[k] for k in range(len(by_number))]
    if isinstance(classes, str | bytes):
        raise ConfigError(f"own_dataset: classes is one text, {classes[:40]!r}. Give a list of names.")
    names = [str(c) for c in classes]
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise ConfigError(f"own_dataset: classes has {twice!r} twice, and two numbers would be one class. Give each a name of its own.")
    return names


def as_its_file(picture: Any, part: Any, k: int) -> Any:
    """Return `picture`, item `k` of `part`; or the content of its file where torchvision's loader lost transparency or more than 8 bits.

    Raises DataError where a transform comes between, so that neither the file nor the result is the picture.
    """
    inner, place = innermost(part, k)
    path = _path(inner, place)
    if path is None or getattr(getattr(inner, "loader", None), "__name__", "") not in LOADERS:
        return picture
    try:
        why = _lost(path)
    except (ValueError, OSError) as error:
        why = said(path, str(error))
        raise DataError(f"image {k}, {path}, cannot be read ({why}); {way_out(why).way_out}.") from None
    if why is None:
        return picture
    if getattr(inner, "transform", None) is None and getattr(inner, "transforms", None) is None:
        return Image.fromarray(pictures.decode(path, 3))
    if why == TURNED and isinstance(picture, Image.Image):
        return picture  # it has its EXIF still, or was turned by it
    raise DataError(f"image {k} {why} ({path}), which its transform no longer shows. Give the data set without transform.")


def _path(inner: Any, k: int) -> Path | None:
    samples = getattr(inner, "samples", None)
    if not isinstance(samples, list) or len(samples) <= k or not isinstance(samples[k], tuple):
        return None
    first = samples[k][0]
    return Path(os.fspath(first)) if isinstance(first, str | os.PathLike) else None


def _lost(path: Path) -> str | None:
    """Return what RGB of 8 bits loses of the file, in words; None where it loses nothing. Raises ValueError for a file that is no
    picture."""
    found = pictures.notes(path)
    if found.deep:
        return "has more than 8 bits in its file"
    if found.transparent:
        return "is transparent in part in its file"
    return TURNED if found.turned else None
