"""A lock that lets one sweep per study run at a time. It says which process holds it, and a dead process cannot keep it.

A holder is certainly dead only where its process can be looked up: on this machine, in this space of process numbers. Everywhere else,
and where the lock cannot be understood, its age decides: a living holder touches it every BEAT_S.

In an object store the lock is written on the condition that there is none, so one of two simultaneous sweeps is refused. The lock of a
dead sweep is replaced on the condition that it has not changed since. (This is so on S3; stores without such conditions are read before
and after.)
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from study.errors import EnvironmentProblem
from study.records import dumps
from study.storage.folder import Folder, make_private
from study.storage.refusals import explained

STALE_S = 120.0  # a holder that cannot be seen and has not touched its lock this long is taken for dead
BEAT_S = STALE_S / 4  # how often a holder touches its lock


@contextlib.contextmanager
def held(folder: Folder) -> Iterator[None]:
    """Hold `<study>/.lock` and touch it every BEAT_S seconds.

    Raises EnvironmentProblem, naming host, pid and since when, if another sweep holds it.
    """
    mine = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.time(),
        "started": _started(os.getpid()),
        "machine": machine(),
    }
    own = _InStore(folder, mine) if folder.remote else _OnDisk(folder, mine)
    own.take()
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(own, ended), name="study-lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join(timeout=10)  # shared storage that hangs must not keep us from ending
        with contextlib.suppress(OSError, EnvironmentProblem):
            own.release()


class _OnDisk:
    def __init__(self, folder: Folder, mine: dict[str, Any]) -> None:
        self.folder, self.mine, self.path = folder, mine, Path(folder.path(".lock"))

    def take(self) -> None:
        with explained(str(self.path)):
            make_private(self.folder.root)
            guard = FileLock(self.folder.path(".lock.guard"), mode=0o600)
            try:
                with guard.acquire(timeout=10):
                    age = _age(self.path, Path(self.folder.path(".lock.guard")))
                    if age is not None:
                        _refuse_if_held(str(self.path), self._contents(), age)
                    self.folder.write(".lock", dumps(self.mine).encode())
            except Timeout:
                raise EnvironmentProblem(f"{self.path} is being taken by another sweep right now. Run the same command again.") from None

    def touch(self) -> None:
        """Touch the lock where it is ours; the lock of another sweep is left alone."""
        if self._contents() == self.mine:
            os.utime(self.path)

    def release(self) -> None:
        if self._contents() == self.mine:
            self.path.unlink()

    def _contents(self) -> Any:
        try:
            return _parsed(self.path.read_bytes())
        except OSError:
            return None


class _InStore:
    """A lock in an object store. `beat` in the file makes its contents new, so a sweep that found it stale notices that it is not."""

    def __init__(self, folder: Folder, mine: dict[str, Any]) -> None:
        self.folder, self.mine, self.data = folder, mine, self._with_beat(mine)

    @staticmethod
    def _with_beat(mine: dict[str, Any]) -> bytes:
        return dumps({**mine, "beat": time.time()}).encode()

    def take(self) -> None:
        there = self.folder.read(".lock")
        if there is None:
            self.folder.create(".lock", self.data)
        else:
            if (age := self._age()) is not None:
                _refuse_if_held(self.folder.shown(".lock"), _parsed(there), age)
            self.folder.replace(".lock", self.data, there)
        if self.folder.read(".lock") != self.data:  # asked for, since a store may know no conditions, and an answer may have been lost
            raise EnvironmentProblem(
                f"{self.folder.shown('.lock')} is being taken by another sweep right now. Run the same command again.",
            )

    def touch(self) -> None:
        data = self._with_beat(self.mine)
        if self.folder.replace(".lock", data, self.data) or self.folder.read(".lock") == data:
            self.data = data

    def release(self) -> None:
        if self.folder.read(".lock") == self.data:
            self.folder.remove(".lock")

    def _age(self) -> float | None:
        """Return the lock's age in seconds, or None where the lock is gone.

        The store's clock decides where the store tells when it wrote; otherwise the clocks of the two machines do.
        """
        self.folder.write(".lock.guard", b"")
        now, then = self.folder.modified(".lock.guard"), self.folder.modified(".lock")
        if now is not None and then is not None:
            return now - then
        known = _parsed(self.folder.read(".lock") or b"")
        return time.time() - known["beat"] if isinstance(known, dict) and _is_time(known.get("beat")) else None


def machine() -> str:
    """Return a text that identifies this machine since its start and this space of process numbers.

    Containers of one machine share the former and not the latter; two hosts of the same name share neither.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def _beat(own: _OnDisk | _InStore, ended: threading.Event) -> None:
    """Touch the lock every BEAT_S, which shows sweeps on other hosts that this one is alive even while it writes nothing."""
    while not ended.wait(BEAT_S):
        with contextlib.suppress(OSError, EnvironmentProblem):
            own.touch()


def _refuse_if_held(path: str, known: Any, age: float) -> None:
    """Raise EnvironmentProblem unless the lock is stale or its holder certainly dead.

    `known`: the contents of the lock; `age` in seconds.
    """
    fresh = age < STALE_S
    if not _is_ours(known):
        if fresh:
            raise EnvironmentProblem(
                f"{path} says nothing that a sweep would write, and is {max(age, 0):.0f} s old. If no sweep runs on this study, "
                f"remove it, or wait until it is {STALE_S:.0f} s old."
            )
        return
    here = known["machine"] == machine()
    alive = here and _started(known["pid"]) == known["started"]
    if not alive and (here or not fresh):
        return
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(known["since"]))
    unseen = "" if alive else f" (it cannot be seen from here; if it is dead, its lock ends {STALE_S:.0f} s after its last sign of life)"
    raise EnvironmentProblem(
        f"study in use by pid {known['pid']} on {known['host']!s:.100} since {since} ({path}){unseen}; "
        "wait for it, end it, or choose another --name."
    )


def _started(pid: int) -> float | None:
    """Return when a process of this machine was started, since its number may be given to another process later; None where there is
    none."""
    try:
        return psutil.Process(pid).create_time()
    except (psutil.Error, OverflowError, ValueError):
        return None


def _age(path: Path, clock: Path) -> float | None:
    """Return the seconds since the lock was touched, or None where there is no lock. The clock is that of the storage, not of this
    machine."""
    os.utime(clock)
    try:
        return clock.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return None


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError):
        return None


def _is_ours(known: Any) -> bool:
    """Return True where the contents are what a sweep writes."""
    if not isinstance(known, dict) or not all(isinstance(known.get(k), str) for k in ("host", "machine")):
        return False
    pid, times = known.get("pid"), [known.get("since"), known.get("started")]
    return type(pid) is int and 0 < pid < 2**31 and all(_is_time(t) for t in times)


def _is_time(value: Any) -> bool:
    """Return True for a unix time before the year 2097; later ones cannot be shown."""
    return type(value) in (int, float) and 0 <= value < 4e9
