"""Images in files and folders that a user names, found without opening one, then read a few at a time."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from study.datasets.imagefiles import JUNK, no_image
from study.errors import ConfigError, DataError

READERS = 4  # files decoded at a time

Batch = tuple[list[tuple[Path, np.ndarray]], list[tuple[str, str]]]
"""A batch: ([(path, uint8 [S, S, C])], [(path, why it cannot be read)])."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The images found, in the order of their names; `left_out` counts the other files by reason."""

    images: list[Path]
    left_out: list[str]


def find_images(places: Sequence[Path]) -> Found:
    """Return the named files, and all images below the named folders. Raises ConfigError where there are none."""
    images: list[Path] = []
    others: Counter[str] = Counter()
    for place in places:
        if not place.exists():
            raise ConfigError(f"{place} does not exist. Name image files, or a folder that holds some.")
        if not place.is_dir():
            images.append(place)
            continue
        for path in _below(place):
            if (why := no_image(path.name)) is None:
                images.append(path)
            elif why != JUNK:
                others[why] += 1
    if not images:
        held = f" ({', '.join(f'{n} files: {why}' for why, n in others.most_common())})" if others else ""
        raise ConfigError(f"{', '.join(map(str, places))} holds no image{held}. Name image files, or a folder that holds some.")
    return Found(images=_once(images), left_out=[f"left out: {n} files, {why}" for why, n in others.most_common()])


def _once(images: Sequence[Path]) -> list[Path]:
    """Return each picture by the first of its names: NEW and NEW/../NEW are one folder. A link to a picture is a picture of its own."""
    folders = {p.parent: os.path.realpath(p.parent) for p in images}
    return list({(folders[p.parent], p.name): p for p in reversed(images)}.values())[::-1]


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder. Links to folders are not followed: one may lead back up."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if no_image(f) != JUNK)
        yield from (Path(here, name) for name in sorted(files))


def read_batches(paths: Iterable[Path], read: Callable[[str], np.ndarray], size: int) -> Iterator[Batch]:
    """Yield `size` images at a time, so that memory does not grow with their number; the next ones are decoded while these are used."""
    rest = iter(paths)

    def one(path: Path) -> tuple[Path, np.ndarray | str]:
        try:
            return path, read(str(path))
        except DataError as error:
            return path, str(error)

    with ThreadPoolExecutor(READERS) as pool:
        waiting = [pool.submit(one, p) for p in islice(rest, size)]
        while waiting:
            following = [pool.submit(one, p) for p in islice(rest, size)]
            done = [w.result() for w in waiting]
            waiting = following
            yield [(p, v) for p, v in done if not isinstance(v, str)], [(str(p), v) for p, v in done if isinstance(v, str)]
