"""Safe unpacking of archives and files of unknown origin: nothing outside the folder, no links, no devices, no bombs."""

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from study.errors import DataError

BLOCK = 1 << 20
OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True, kw_only=True)
class Limits:
    files: int = 200_000
    bytes: int = 20_000_000_000
    ratio: float = 100.0  # unpacked to packed
    depth: int = 32


def read_unpacked(path: Path, limits: Limits) -> bytes:
    """Return the bytes of a file, unpacked where its name ends in .gz, .bz2 or .xz. Raises DataError.

    It reads in blocks, so a bomb costs no more than the limits allow.
    """
    if not path.is_file():
        raise DataError(f"{path} {'is no regular file' if os.path.lexists(path) else 'does not exist'}. Put the file there.")
    if (size := path.stat().st_size) > limits.bytes:
        raise DataError(
            f"{path} has {size / 1e6:.0f} MB, more than {limits.bytes / 1e6:.0f} MB. It cannot be the right file, get it again."
        )
    count, blocks = _Count(path, limits), []
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as file:
            while block := file.read(BLOCK):
                count.add(len(block))
                blocks.append(block)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {error}). It may be cut short or damaged, get it again.",
        ) from None
    return b"".join(blocks)


def extract(archive: Path, target: Path, limits: Limits | None = None) -> int:
    """Unpack a zip or tar file into `target` and return the number of files. Raises DataError naming the member."""
    limits = limits or Limits()
    target.mkdir(parents=True, exist_ok=True)
    if zipfile.is_zipfile(archive):
        return _extract_zip(archive, target, limits)
    if tarfile.is_tarfile(archive):
        return _extract_tar(archive, target, limits)
    raise DataError(f"{archive} is neither a zip nor a tar file. Get it again.")


class _Count:
    """The files and bytes unpacked so far, compared with the limits. It counts real bytes, since size fields can lie."""

    def __init__(self, archive: Path, limits: Limits) -> None:
        self.archive, self.limits, self.files, self.bytes = archive, limits, 0, 0
        self.packed = max(archive.stat().st_size, 1)
        self.names: set[str] = set()

    def member(self, name: str) -> PurePosixPath:
        path = PurePosixPath(name.replace("\\", "/"))
        if (
            path.is_absolute()
            or ".." in path.parts
            or not path.parts
            or "\0" in name
            or (len(path.parts[0]) == 2 and path.parts[0][1] == ":")
        ):
            raise DataError(f"{self.archive}: member {name[:120]!r} points outside the folder. Do not use this archive.")
        if len(path.parts) > self.limits.depth:
            raise DataError(f"{self.archive}: member {name[:80]!r} lies {len(path.parts)} folders deep (limit {self.limits.depth}).")
        key = str(path).casefold()
        if key in self.names:
            raise DataError(f"{self.archive}: member {name[:120]!r} is there twice (or differs in case only).")
        self.names.add(key)
        self.files += 1
        if self.files > self.limits.files:
            raise DataError(f"{self.archive}: more than {self.limits.files} files.")
        return path

    def copy(self, source, destination: Path) -> None:  # type: ignore[no-untyped-def]
        destination.parent.mkdir(parents=True, exist_ok=True)
        with open(destination, "xb") as out:
            while block := source.read(BLOCK):
                self.add(len(block))
                out.write(block)

    def add(self, unpacked: int) -> None:
        self.bytes += unpacked
        most = min(self.limits.bytes, self.limits.ratio * self.packed + BLOCK)
        if self.bytes > most:
            raise DataError(f"{self.archive}: unpacks to more than {most / 1e6:.0f} MB. It is a bomb, get it again elsewhere.")


def _extract_zip(archive: Path, target: Path, limits: Limits) -> int:
    count = _Count(archive, limits)
    try:
        with zipfile.ZipFile(archive) as zipped:
            if len(zipped.infolist()) > limits.files:
                raise DataError(f"{archive}: {len(zipped.infolist())} members, more than {limits.files}.")
            for info in zipped.infolist():
                if info.is_dir():
                    continue
                mode = info.external_attr >> 16
                if mode and (mode & 0o170000) not in (0, 0o100000):
                    raise DataError(f"{archive}: member {info.filename[:120]!r} is a link or a device. Do not use this archive.")
                path = count.member(info.filename)
                with zipped.open(info) as source:
                    count.copy(source, target / path)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        _clean(target)
        raise DataError(f"{archive} is damaged ({error}). Get it again.") from None
    except DataError:
        _clean(target)
        raise
    return count.files


def _extract_tar(archive: Path, target: Path, limits: Limits) -> int:
    count = _Count(archive, limits)
    try:
        with tarfile.open(archive) as tar:
            for info in tar:
                if info.isdir():
                    continue
                if not info.isreg():
                    raise DataError(f"{archive}: member {info.name[:120]!r} is a link or a device. Do not use this archive.")
                path = count.member(info.name)
                source = tar.extractfile(info)
                assert source is not None
                count.copy(source, target / path)
    except (tarfile.TarError, EOFError, OSError) as error:
        _clean(target)
        raise DataError(f"{archive} is damaged ({error}). Get it again.") from None
    except DataError:
        _clean(target)
        raise
    return count.files


def _clean(target: Path) -> None:
    """Remove everything that was unpacked, so that no half of it remains."""
    for name in os.listdir(target):
        path = target / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
