"""The pixel cache: a memory-mapped uint8 array of all images of a data set, decoded once and shared by every trial of a machine."""

import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from study.datasets.built_arrays import built_once, open_array, write_array
from study.datasets.spec import ImageTable
from study.errors import EnvironmentProblem
from study.inference.framing import frame
from study.storage.refusals import explained

BLOCK = 16  # images a thread decodes before it asks for more


def cache_folder() -> Path:
    """Return `STUDY_CACHE`, else ~/.cache/finetune-study."""
    return Path(os.environ.get("STUDY_CACHE") or Path.home() / ".cache" / "finetune-study")


def pixels(table: ImageTable, size: int, folder: Path | None = None, fit: str = "square") -> np.ndarray:
    """Return read-only uint8 [N, S, S, C] with S = min(size, largest side), built by the first process that needs it; of images in tiles
    [N, rows * S, columns * S, C], as `inference.framing` has them.

    The cache's name is a hash of the content, so a changed file makes a new cache. Raises DataError for an image that cannot be decoded,
    EnvironmentProblem when the disk is too small or refuses.
    """
    side = min(size, table.largest_side(fit))
    root = (folder or cache_folder()) / "pixels"
    path = root / f"{table.fingerprint[:24]}-{side}{framing_mark(fit, table.tiles)}.npy"
    shape = (len(table.ids), table.tiles[0] * side, table.tiles[1] * side, table.channels)

    def find() -> np.ndarray | None:
        array = open_array(path)
        return array if array is not None and array.shape == shape and array.dtype == np.uint8 else None

    def build() -> np.ndarray:
        needed, free = int(np.prod(shape)), shutil.disk_usage(root).free
        if needed * 1.1 > free:
            raise EnvironmentProblem(
                f"no space left on {root}: the decoded images of {table.name} need {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are "
                "free. Set STUDY_CACHE."
            )
        return write_array(
            path, "|u1", shape, decoded(table, side, cores(), fit), {"dataset": table.name, "fingerprint": table.fingerprint}
        )

    with kept_in(root):
        return built_once(path.with_suffix(".lock"), find, build)


def framing_mark(fit: str, tiles: tuple[int, int]) -> str:
    """Return what tells caches apart that hold the same images in other frames; empty for the centre squares of whole images."""
    return f"-{fit}" * (fit != "square") + f"-{tiles[0]}x{tiles[1]}" * (tiles != (1, 1))


def decoded(table: ImageTable, side: int, threads: int, fit: str = "square") -> Iterator[np.ndarray]:
    """Yield all images of `table` in order as squares of `side` pixels, or tiles of them, uint8 [n, S, S, C] at a time.

    It uses threads, since Pillow releases the interpreter while it decodes and resizes; only a few blocks wait at once. Raises DataError
    for the first image that cannot be decoded.
    """

    def block(start: int) -> np.ndarray:
        return np.stack([frame(table.decode(k), side, fit, table.tiles) for k in range(start, min(start + BLOCK, len(table.ids)))])

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[np.ndarray]] = deque()
        try:
            for start in range(0, len(table.ids), BLOCK):
                waiting.append(pool.submit(block, start))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # the reader stopped, or an image cannot be read: nobody wants the rest
                future.cancel()


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def kept_in(root: Path, another: str = "set STUDY_CACHE to another folder") -> Iterator[None]:
    """Explain in one line what the disk refuses of the files below `root`, with `another` as a way out. Raises EnvironmentProblem."""
    with explained(os.path.join(root, ""), another=another):
        yield
