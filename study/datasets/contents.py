"""A few digits of each image's pixels, by which a continued or newly measured study recognises its images."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL

from study.datasets.built_arrays import built_once, open_array, write_array
from study.datasets.cache import BLOCK, cache_folder, cores, kept_in
from study.datasets.spec import ImageTable
from study.errors import DataError

DIGITS = 8  # hex digits of an image: another one has the same by chance once in four thousand million


def decoder() -> str:
    """Return the version of the decoder, since another version may round differently."""
    return f"pillow {PIL.__version__}"


def contents(table: ImageTable) -> list[str]:
    """Return DIGITS hex digits of every image in order, independent of place and name; an empty text for one that cannot be decoded.

    They come from the scan of a user's own images, else images are decoded once and the digits kept in the cache by name, size and time
    of change, as pixels are. Raises EnvironmentProblem when the disk refuses.
    """
    if table.contents is not None:
        return list(table.contents)
    root = cache_folder() / "contents"
    path, shape = root / f"{table.fingerprint[:24]}.npy", (len(table.ids), DIGITS // 2)

    def find() -> np.ndarray | None:
        array = open_array(path)
        return array if array is not None and array.shape == shape and array.dtype == np.uint8 else None

    def build() -> np.ndarray:
        return write_array(path, "|u1", shape, _digests(table), {"dataset": table.name, "fingerprint": table.fingerprint})

    with kept_in(root):
        known = built_once(path.with_suffix(".lock"), find, build)
    return [row.tobytes().hex() if row.any() else "" for row in known]


def digest(pixels: np.ndarray) -> str:
    """Return 64 hex digits of uint8 [H, W, C], its shape included."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _digests(table: ImageTable) -> Iterator[np.ndarray]:
    """Yield uint8 [n, DIGITS / 2] at a time, in order; zeros for images that cannot be decoded."""

    def one(k: int) -> bytes:
        try:
            return bytes.fromhex(digest(table.decode(k))[:DIGITS])
        except DataError:
            return bytes(DIGITS // 2)

    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(table.ids), BLOCK * cores()):
            found = list(pool.map(one, range(start, min(start + BLOCK * cores(), len(table.ids)))))
            yield np.frombuffer(b"".join(found), np.uint8).reshape(len(found), -1)
