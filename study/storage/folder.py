"""A folder on a local disk or behind any fsspec URL, written so that a reader never sees half a file."""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TypeVar

from study.console.text import redact, shown
from study.errors import ConfigError, EnvironmentProblem
from study.storage import object_store
from study.storage.refusals import explained, explained_store

REMOVALS = 5  # tries at a folder somebody still writes to

T = TypeVar("T")
R = TypeVar("R")


def as_text(place: object) -> str:
    """Return a path or a URL as text. Raises ConfigError for what can be neither."""
    text = os.fspath(place) if isinstance(place, str | os.PathLike) else None
    if not isinstance(text, str) or "\0" in text:
        raise ConfigError(f"A path or a URL must be a text, or a Path, without a NUL, not {shown(repr(place))[:60]}.")
    return text


def is_url(location: str) -> bool:
    return "://" in location and not location.startswith("file://")


class Folder:
    """Small files by relative name. Local writes are atomic and survive a power cut; modes are 0600 / 0700.

    Every method raises EnvironmentProblem where the disk or the store behind the URL refuses, and ConfigError for a URL that no store
    serves.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        location = as_text(location)
        self.remote = is_url(location)
        if self.remote:
            self.location = location.rstrip("/")
            self.fs, self.root = object_store.open_store(location)
        else:
            self.root = os.path.abspath(location.removeprefix("file://"))
            self.location = self.root

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.location}/{name}")

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def shown(self, name: str) -> str:
        """Return the name's full path or URL as people may see it, without a password."""
        return redact(f"{self.location}/{name}")

    def exists(self, name: str = "") -> bool:
        with self._explained(name, reading=True):
            if self.remote:
                return bool(self.fs.exists(self.path(name)))
            with suppress(FileNotFoundError, NotADirectoryError):  # os.path.exists takes "not allowed to look" for "no"
                os.stat(self.path(name))
                return True
        return False

    def read(self, name: str) -> bytes | None:
        """Return the file's bytes, or None where it does not exist."""
        with suppress(FileNotFoundError), self._explained(name, reading=True):
            if self.remote:
                return object_store.read(self.fs, self.path(name))
            try:
                return _read(self.path(name))
            except NotADirectoryError:  # a stray file among our folders is nobody's; one in the place of this folder is in the way
                if not os.path.isdir(self.root):
                    raise
        return None

    def size(self, name: str) -> int | None:
        """Return the size of a regular file in bytes; None where there is no file, or where something else (a pipe, a device) has its
        name."""
        with self._explained(name, reading=True), suppress(FileNotFoundError, NotADirectoryError):
            if self.remote:
                return int(self.fs.size(self.path(name)) or 0)
            found = os.stat(self.path(name))
            return found.st_size if stat.S_ISREG(found.st_mode) else None
        return None

    def modified(self, name: str) -> float | None:
        """Return the unix time at which the file was last written; None where there is no file or the store does not know."""
        with self._explained(name, reading=True), suppress(FileNotFoundError, NotADirectoryError, NotImplementedError):
            if self.remote:
                return float(self.fs.modified(self.path(name)).timestamp())
            return os.stat(self.path(name)).st_mtime
        return None

    def write(self, name: str, data: bytes) -> None:
        """Write the whole file or nothing: a temporary file in the same folder, fsync, rename, fsync of the folder."""
        with self._explained(name, len(data)):
            if self.remote:
                if self.location.rpartition("::")[2].partition("://")[0] not in object_store.BUCKETS:
                    self.fs.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
                self.fs.pipe_file(self.path(name), data)
                return
            target = self.path(name)
            make_private(os.path.dirname(target))
            temporary = f"{target}.{os.getpid()}.tmp"
            try:
                with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, target)
            except BaseException:
                if os.path.exists(temporary):
                    os.unlink(temporary)
                raise
            sync_folder(os.path.dirname(target))

    def append_line(self, name: str, line: bytes) -> None:
        """Add one line. A tail torn by a crash or a full disk is cut off first, so lines stay whole."""
        with self._explained(name, len(line)):
            if self.remote:  # object stores cannot append; what grows long is kept in many files there (study.tracking.ledger)
                self.write(name, whole_lines(self.read(name) or b"") + line + b"\n")
                return
            target = self.path(name)
            make_private(os.path.dirname(target))
            with open(os.open(target, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
                keep = len(whole_lines(file.read()))
                file.truncate(keep)
                file.seek(keep)
                try:
                    data = line + b"\n"
                    if file.write(data) != len(data):
                        raise OSError(errno.ENOSPC, "No space left on device")
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(keep)
                    raise

    def names(self, name: str = "") -> list[str]:
        """Return the sorted names directly inside a sub-folder; an empty list where there is none."""
        with suppress(FileNotFoundError), self._explained(name, reading=True):
            if self.remote:
                return sorted(os.path.basename(p.rstrip("/")) for p in self.fs.ls(self.path(name), detail=False))
            return sorted(os.listdir(self.path(name)))
        return []

    def marks(self, name: str = "") -> dict[str, str]:
        """Map each file directly inside a sub-folder to a text that changes with its contents, so that a caller knows what to read
        again."""
        with suppress(FileNotFoundError), self._explained(name, reading=True):
            if self.remote:
                found = self.fs.ls(self.path(name), detail=True)
                return {os.path.basename(f["name"]): object_store.mark(f) for f in found if f["type"] == "file"}
            with os.scandir(self.path(name)) as entries:
                return {e.name: _mark(e.stat()) for e in entries if e.is_file()}
        return {}

    def each(self, act: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return `act` of every item, in their order. Behind a URL many run at a time, since there the waiting takes longest."""
        if not self.remote:
            return [act(item) for item in items]
        with ThreadPoolExecutor(object_store.PARALLEL, thread_name_prefix="store") as pool:
            return list(pool.map(act, items))

    def create(self, name: str, data: bytes) -> bool:
        """Write a file behind a URL that does not exist yet; return False where it does."""
        with self._explained(name):
            return object_store.create(self.fs, self.path(name), data)

    def replace(self, name: str, data: bytes, known: bytes) -> bool:
        """Write a file behind a URL that still holds `known`; return False where it holds something else or is gone."""
        with self._explained(name):
            return object_store.replace(self.fs, self.path(name), data, known)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all it holds. A file that is gone already, or disappears meanwhile, is no error."""
        with self._explained(name):
            if self.remote:
                with suppress(FileNotFoundError):
                    self.fs.rm(self.path(name), recursive=True)
            else:
                _remove(self.path(name))

    def free(self) -> int | None:
        """Return the free bytes where this folder is or will be; None behind a URL."""
        if self.remote:
            return None
        with self._explained("", reading=True):
            place = Path(self.root)
            while not place.exists():
                place = place.parent
            return shutil.disk_usage(place).free

    def _explained(self, name: str, size: int = 0, *, reading: bool = False) -> AbstractContextManager[None]:
        if self.remote:
            return explained_store(f"{self.location}/{name}".rstrip("/"), reading=reading)
        return explained(self.path(name).rstrip("/"), size, reading=reading)


def _remove(path: str) -> None:
    tries = 0
    while os.path.lexists(path):
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except FileNotFoundError:
            continue  # somebody else removes it too
        except OSError as error:
            tries += 1
            if error.errno != errno.ENOTEMPTY or tries == REMOVALS:
                raise


def _mark(found: os.stat_result) -> str:
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"


def whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def make_private(folder: str) -> None:
    """Make the folder and its missing parents, each readable by its owner alone: `os.makedirs` gives its mode to the last one only."""
    missing = []
    while folder and not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        with suppress(FileExistsError):  # made by somebody else meanwhile; a file in its place is found by whoever writes into it
            os.mkdir(path, 0o700)


def sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: str) -> bytes:
    """Return the bytes of a regular file. Raises EnvironmentProblem for a pipe, a device or a socket, which may never end."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise EnvironmentProblem(f"{path} is no regular file (a pipe or a device). Remove it, or put the file back.")
        return file.read()
