"""Readers of image files of unknown origin: an allow-list of formats, a limit on pixels, and every problem named in one pass."""

import hashlib
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from study.console.text import shown
from study.datasets.no_images import said, way_out, ways_out
from study.errors import DataError
from study.inference import pictures

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
WITH_PACKAGE = {".avif": ("AVIF", "a Pillow built with AVIF"), ".heic": ("HEIF", "pillow-heif"), ".heif": ("HEIF", "pillow-heif")}
SHOWN = 20
JUNK = "left there by a system, a device or an editor"


OF_SYSTEMS = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "__pycache__", "icon\r", "lost+found", "lost.dir"),
    *("$recycle.bin", "recycler", "system volume information", "found.000", "network trash folder", "temporary items"),
    *("@eadir", "@tmp", "@recycle", "@__thumb", "@recently-snapshot", "@sharebin", "#recycle", "#snapshot"),  # network drives
    *("thumbs", "thumbnails", "_thumbs", "_thumbnails", "picasaoriginals", "picasa.ini", "zbthumbnail.info"),
}
OF_DEVICES = ("@__", "synophoto_", "synoindex_", "~$")  # how what they write begins


def is_junk(name: str) -> bool:
    """Return True for files and folders that operating systems, network drives, cameras and notebooks leave behind."""
    return name.startswith(".") or name.lower() in OF_SYSTEMS or name.lower().startswith(OF_DEVICES)


def no_image(name: str) -> str | None:
    """Return why a file of this name is not taken for an image; None where it is."""
    if is_junk(name):
        return JUNK
    suffix = os.path.splitext(name)[1].lower()
    if suffix in SUFFIXES:
        return None
    if suffix in WITH_PACKAGE:
        form, package = WITH_PACKAGE[suffix]
        return None if form in pictures.formats() else f"{suffix} needs {package}"
    return f"{suffix} is not read" if suffix else "no suffix"


def short_side(path: Path) -> int:
    """Return the short side in pixels, from the header alone. Raises ValueError with the reason for all errors of Pillow."""
    regular(path)
    return pictures.short_side(path)


def regular(path: Path) -> None:
    """Raise ValueError for a path that is no regular file, OSError where that cannot be seen."""
    if not stat.S_ISREG(path.stat().st_mode):  # a FIFO or a socket must not be opened: that would wait for ever
        raise ValueError("not a regular file")


def check_headers(paths: Sequence[Path]) -> tuple[int, list[tuple[int, str]]]:
    """Return (longest short side, [(position, reason)] of unreadable files), reading every header once."""

    def look(path: Path) -> int | str:
        try:
            return short_side(path)
        except (ValueError, OSError) as error:
            return said(path, str(error) if not isinstance(error, OSError) else (error.strerror or str(error)))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(look, paths))
    bad = [(k, f) for k, f in enumerate(found) if isinstance(f, str)]
    return max((f for f in found if isinstance(f, int)), default=0), bad


def refuse(bad: list[tuple[str, str]], what: str) -> DataError:
    """Return one error that lists every unreadable file (the first 20 by name)."""
    listed = "; ".join(f"{name} ({reason})" for name, reason in bad[:SHOWN])
    more = f". And {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return DataError(f"{len(bad)} of the images in {what} cannot be read: {listed}{more}. {ways_out(reason for _, reason in bad)}")


def decode_file(path: Path, channels: int) -> np.ndarray:
    """Return uint8 [H, W, channels] with EXIF orientation applied; 16-bit and float images are scaled, not clipped. Raises DataError."""
    try:
        regular(path)
        return pictures.decode(path, channels)
    except FileNotFoundError:
        raise DataError(shown(f"{path} does not exist.")) from None
    except (ValueError, OSError) as error:
        why = said(path, str(error) if isinstance(error, ValueError) else pictures.reason(error))
        raise DataError(shown(f"{path} cannot be decoded ({why}); {way_out(why).way_out}.")) from None


def fingerprint(parts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogateescape"))
        digest.update(b"\0")
    return digest.hexdigest()


def identity(path: Path) -> str:
    """Return name, size and time of change, which show whether a file is still the one that was cached."""
    info = os.stat(path)
    return f"{path}|{info.st_size}|{info.st_mtime_ns}"
