"""The scan of a user's own images: each one's readability, digest (for copies), brightness and sharpness.

A scan decodes the images, so it is kept in the cache: looks/FINGERPRINT.parquet, by the files' names, sizes and times of change.
"""

import dataclasses
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from study.datasets.built_arrays import built_once, temporary
from study.datasets.cache import cache_folder, kept_in
from study.datasets.contents import digest
from study.datasets.copies import difference_hash, thumbnail
from study.datasets.imagefiles import regular
from study.errors import DataError
from study.inference import pictures

TYPES = {"hash": pa.uint64()}
VERSION = 2  # of what a look says
MANY = 2_000  # images, from which on a first look is announced
SHARP_SIDE = 256  # pixels: sharpness is compared at one size

Source = Path | Callable[[], bytes]
"""A file, or a function that returns its bytes."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """The facts of one image. Where `reason` is not empty the image cannot be read, and the other fields have no meaning."""

    reason: str = ""
    digest: str = ""  # of its pixels as training would see them, shape included
    hash: int = 0
    thumbnail: bytes = b""
    height: int = 0
    width: int = 0
    bright: float = 0.0  # 0..255: its 99th percentile, so that a night sky with a moon is not called dark
    sharp: float = 0.0  # standard deviation of the Laplacian, at SHARP_SIDE
    deep: bool = False  # more than 8 bits a channel
    pages: bool = False  # more than one
    new: bool = False  # earlier versions read it otherwise: what was kept of it then is not read again


def look(pixels: np.ndarray) -> Look:
    """Return the facts of an image. `pixels`: uint8 [H, W, C]."""
    height, width = pixels.shape[:2]
    grey = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("L")
    grey.thumbnail((SHARP_SIDE, SHARP_SIDE), Image.Resampling.BOX)
    small = np.asarray(grey, dtype=np.float32)
    edges = 4 * small[1:-1, 1:-1] - small[:-2, 1:-1] - small[2:, 1:-1] - small[1:-1, :-2] - small[1:-1, 2:]
    return Look(
        digest=digest(pixels),
        hash=int(difference_hash(pixels)),
        thumbnail=thumbnail(pixels),
        height=height,
        width=width,
        bright=float(np.percentile(small, 99)),
        sharp=float(edges.std()) if edges.size else 0.0,
    )


def looks(sources: Sequence[Source], fingerprint: str, name: str) -> list[Look]:
    """Return the facts of every source, in order, from the cache where they are known.

    Raises DataError for errors of the system: a disk that fails must not pass for a corrupt image.
    """
    root = cache_folder() / "looks"
    path = root / f"{fingerprint[:24]}-{VERSION}.parquet"

    def find() -> list[Look] | None:
        try:
            known = pq.read_table(path).to_pylist() if path.exists() else []
            return [Look(**row) for row in known] if len(known) == len(sources) else None
        except (pa.ArrowException, OSError, TypeError):
            return None  # damaged: look again

    def build() -> list[Look]:
        if len(sources) >= MANY:
            print(f"{name}: first look at {len(sources):,} images (readable? copies?), kept in {root}", flush=True)
        with ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(_look_at, sources))
        columns = {f.name: pa.array([getattr(one, f.name) for one in taken], TYPES.get(f.name)) for f in dataclasses.fields(Look)}
        pq.write_table(pa.table(columns), temporary(path), compression="zstd")
        os.replace(temporary(path), path)
        return taken

    with kept_in(root):
        return built_once(path.with_suffix(".lock"), find, build)


def _look_at(source: Source) -> Look:
    try:
        if isinstance(source, Path):
            regular(source)
            with open(source, "rb"):
                pass
        picture = source if isinstance(source, Path) else io.BytesIO(source())
        pixels = pictures.decode(picture, 3)
        notes = pictures.notes(picture)
    except ValueError as error:
        return Look(reason=str(error))
    except FileNotFoundError:
        return Look(reason="a link to nowhere")
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror or error}). Look after its path, its owner and its disk.") from None
    return dataclasses.replace(look(pixels), deep=notes.deep, pages=notes.pages, new=notes.new)
