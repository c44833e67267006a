"""Decoded once: a memory-mapped uint8 array of all images of a data set, shared by every trial of a machine."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from study.datasets.spec import ImageTable
from study.errors import EnvironmentProblem
from study.records import dumps


def cache_folder() -> Path:
    """`STUDY_CACHE`, else ~/.cache/finetune-study."""
    return Path(os.environ.get("STUDY_CACHE") or Path.home() / ".cache" / "finetune-study")


def square(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, C] -> [size, size, C]: short side resized with antialiasing, then the centre."""
    if image.shape[:2] == (size, size):
        return image
    height, width = image.shape[:2]
    scale = size / min(height, width)
    target = (max(round(width * scale), size), max(round(height * scale), size))
    resized = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).resize(target, Image.Resampling.LANCZOS)
    left, top = (target[0] - size) // 2, (target[1] - size) // 2
    array = np.asarray(resized)[top : top + size, left : left + size]
    return array[..., None] if array.ndim == 2 else array


def pixels(table: ImageTable, size: int, folder: Path | None = None) -> np.ndarray:
    """Read-only uint8 [N, S, S, C] with S = min(size, native size), built by whoever needs it first.

    Keyed by content, so a changed file makes a new cache. Raises DataError for an image that cannot be decoded,
    EnvironmentProblem when the disk is too small.
    """
    side = min(size, table.native_size)
    root = (folder or cache_folder()) / "pixels"
    name = f"{table.fingerprint[:24]}-{side}"
    shape = [len(table.ids), side, side, table.channels]
    if (found := _open(root, name, shape)) is not None:
        return found
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(root / f"{name}.lock"):
        if (found := _open(root, name, shape)) is None:
            _build(table, root, name, shape)
            found = _open(root, name, shape)
    assert found is not None
    return found


def _open(root: Path, name: str, shape: list[int]) -> np.ndarray | None:
    try:
        manifest = json.loads((root / f"{name}.json").read_text())
        array = np.load(root / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError):
        return None
    return array if manifest["shape"] == shape == list(array.shape) else None


def _build(table: ImageTable, root: Path, name: str, shape: list[int]) -> None:
    needed = int(np.prod(shape))
    free = shutil.disk_usage(root).free
    if needed * 1.1 > free:
        raise EnvironmentProblem(
            f"no space left on {root}: the decoded images of {table.name} need {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free; set STUDY_CACHE."
        )
    temporary = root / f"{name}.npy.{os.getpid()}.tmp"
    try:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=tuple(shape))
        for position in range(shape[0]):
            array[position] = square(table.decode(position), shape[1])
        array.flush()
        del array
        os.replace(temporary, root / f"{name}.npy")
    finally:
        temporary.unlink(missing_ok=True)
    manifest = root / f"{name}.json.{os.getpid()}.tmp"
    manifest.write_text(dumps({"shape": shape, "dataset": table.name, "fingerprint": table.fingerprint}))
    os.replace(manifest, root / f"{name}.json")
