"""Arrays and files that many processes of a machine need and one of them builds: once, under a lock, complete before it has its name.

An array is stored in NAME.npy; NAME.json, written last, holds its shape and checksum. A file that differs from what was written is not
used: damage costs the time to build it again, never a trial and never a wrong number.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock

from study.records import dumps
from study.storage.folder import make_private

T = TypeVar("T")

# SHA-256 by (device, inode, size, time of change): a file is read through once a process, and again once it is another one.
# Measured at 1.0 GB/s where the processor has instructions for it, a third of that where not: seconds for a file of several GB,
# which the first epoch would read anyway. CRC-32 is 2.5 times faster, but 32 bits are few for files that live for months.
_digests: dict[tuple[int, int, int, int], str] = {}


def built_once(lock: Path, find: Callable[[], T | None], build: Callable[[], T]) -> T:
    """Return what `find` finds; else, under the lock and after a second look, what `build` makes. Raises OSError."""
    if (found := find()) is not None:
        return found
    make_private(str(lock.parent))
    with FileLock(lock):
        return build() if (found := find()) is None else found


def open_array(path: Path) -> np.ndarray | None:
    """Return the array, memory-mapped and read-only; None where there is none or its checksum is missing or does not fit."""
    try:
        manifest = json.loads(path.with_suffix(".json").read_bytes())
        with open(path, "rb") as file:
            version = _version(os.fstat(file.fileno()))
            if version not in _digests:
                _digests[version] = hashlib.file_digest(file, "sha256").hexdigest()
        if manifest["sha256"] != _digests[version]:
            return None
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return array if list(array.shape) == manifest["shape"] and _version(path.stat()) == version else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_array(path: Path, dtype: str, shape: tuple[int, ...], blocks: Iterable[np.ndarray], facts: dict[str, object]) -> np.ndarray:
    """Write the rows of `blocks` one after the other and publish them with `facts`. Returns the array, memory-mapped and read-only.

    The rows are written, not mapped: on a full disk that is an OSError, not a SIGBUS. Raises OSError and then leaves no file.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape})
    digest = hashlib.sha256()
    data, manifest = temporary(path), temporary(path.with_suffix(".json"))
    try:
        with open(os.open(data, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:  # not emptied: its length may be claimed already
            for block in chain([header.getbuffer()], (np.ascontiguousarray(b, dtype).data for b in blocks)):
                file.write(block)
                digest.update(block)
            file.truncate()
            _sync(file)
        built: np.ndarray = np.load(data, mmap_mode="r", allow_pickle=False)  # before it has a name others may drop
        with open(manifest, "wb") as file:
            file.write(dumps({**facts, "shape": list(shape), "sha256": digest.hexdigest()}).encode())
            _sync(file)
        os.replace(data, path)
        os.replace(manifest, path.with_suffix(".json"))
        return built
    finally:
        data.unlink(missing_ok=True)
        manifest.unlink(missing_ok=True)


def temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.tmp")


def _sync(file: io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())


def _version(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
