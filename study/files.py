"""A folder on a local disk or behind any fsspec URL, written so that a reader never sees half a file."""

import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from study.errors import EnvironmentProblem


def is_url(location: str) -> bool:
    return "://" in location and not location.startswith("file://")


class Folder:
    """Small files by relative name. Local writes are atomic and survive a power cut; modes are 0600 / 0700."""

    def __init__(self, location: str | os.PathLike[str]) -> None:
        location = os.fspath(location)
        self.remote = is_url(location)
        if self.remote:
            self.fs, self.root = fsspec.core.url_to_fs(location)
            self.location = location.rstrip("/")
        else:
            self.root = os.path.abspath(location.removeprefix("file://"))
            self.location = self.root

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.location}/{name}")

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def exists(self, name: str = "") -> bool:
        return bool(self.fs.exists(self.path(name))) if self.remote else os.path.exists(self.path(name))

    def read(self, name: str) -> bytes | None:
        """The file's bytes, or None where it does not exist."""
        try:
            if self.remote:
                data: bytes = self.fs.cat_file(self.path(name))
                return data
            return Path(self.path(name)).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """All or nothing: temporary file in the same folder, fsync, rename, fsync of the folder."""
        with explained(self.path(name), len(data)):
            if self.remote:
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
        """Adds one line. A tail torn by a crash or a full disk is cut off first, so lines stay whole."""
        with explained(self.path(name), len(line)):
            if self.remote:  # object stores cannot append; these files hold one short line an epoch
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
        """Names directly inside a sub-folder, sorted; empty where there is none."""
        try:
            if self.remote:
                return sorted(os.path.basename(p.rstrip("/")) for p in self.fs.ls(self.path(name), detail=False))
            return sorted(os.listdir(self.path(name)))
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        if self.remote:
            if self.fs.exists(self.path(name)):
                self.fs.rm(self.path(name), recursive=True)
        elif os.path.isdir(self.path(name)):
            shutil.rmtree(self.path(name))
        elif os.path.exists(self.path(name)):
            os.unlink(self.path(name))

    def free(self) -> int | None:
        """Bytes free where this folder lies or will lie; None behind a URL."""
        if self.remote:
            return None
        place = Path(self.root)
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free

    def open_for_reading(self, name: str) -> io.BufferedIOBase:
        """Raises FileNotFoundError."""
        return self.fs.open(self.path(name), "rb") if self.remote else open(self.path(name), "rb")  # type: ignore[return-value]


def whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def make_private(folder: str) -> None:
    os.makedirs(folder, mode=0o700, exist_ok=True)


def sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def explained(path: str, size: int = 0) -> Iterator[None]:
    """Turns the file system's refusals into one line that names the path and the way out."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: f"no space left on {os.path.dirname(path)}: need about {size / 1e6:.1f} MB more; free some and run the same command again",
            errno.EROFS: f"{os.path.dirname(path)} is on a read-only file system; choose another folder with --results",
            errno.EACCES: f"no permission to write {path}; choose another folder with --results or change its owner",
            errno.EPERM: f"not allowed to write {path}; choose another folder with --results or change its owner",
            errno.EMFILE: f"too many open files while writing {path}; raise the limit with `ulimit -n 4096`",
            errno.EDQUOT: f"disk quota exceeded on {os.path.dirname(path)}; free some and run the same command again",
        }
        if error.errno in reasons:
            raise EnvironmentProblem(reasons[error.errno]) from error
        raise
