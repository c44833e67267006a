"""One sweep per study at a time: a lock that says who holds it, and that a dead process cannot keep.

A holder is dead for certain only where its process could be seen: on this very machine, in this very space of process numbers.
Everywhere else, and where the lock cannot be understood, its age decides: a living holder touches it every BEAT_S.

In an object store the lock is put on the condition that there is none, so of two sweeps at once one is refused; a dead one's is replaced
on the condition that it has not changed since (S3; stores without such conditions are read before and after).
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
    """Holds `<study>/.lock`, touching it every BEAT_S. Raises EnvironmentProblem, naming host, pid and since when, if another sweep does."""
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
                raise EnvironmentProblem(f"{self.path} is being taken by another sweep right now; run the same command again.") from None

    def touch(self) -> None:
        """Another's lock is left alone."""
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
    """`beat` in the file makes its contents new, so that whoever found it stale finds that it is not."""

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
            raise EnvironmentProblem(f"{self.folder.shown('.lock')} is being taken by another sweep right now; run the same command again.")

    def touch(self) -> None:
        data = self._with_beat(self.mine)
        if self.folder.replace(".lock", data, self.data) or self.folder.read(".lock") == data:
            self.data = data

    def release(self) -> None:
        if self.folder.read(".lock") == self.data:
            self.folder.remove(".lock")

    def _age(self) -> float | None:
        """By the clock of the store, where it tells when it wrote; else by the clocks of the two machines. None: the lock has gone."""
        self.folder.write(".lock.guard", b"")
        now, then = self.folder.modified(".lock.guard"), self.folder.modified(".lock")
        if now is not None and then is not None:
            return now - then
        known = _parsed(self.folder.read(".lock") or b"")
        return time.time() - known["beat"] if isinstance(known, dict) and _is_time(known.get("beat")) else None


def machine() -> str:
    """This machine since it was started, and this space of process numbers: containers share the one, hosts of one name share neither."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def _beat(own: _OnDisk | _InStore, ended: threading.Event) -> None:
    """Shows sweeps on other hosts that this one lives, however long it has nothing to say."""
    while not ended.wait(BEAT_S):
        with contextlib.suppress(OSError, EnvironmentProblem):
            own.touch()


def _refuse_if_held(path: str, known: Any, age: float) -> None:
    """Raises EnvironmentProblem unless the lock is stale or its holder certainly dead. `known`: what it says; `age` in seconds."""
    fresh = age < STALE_S
    if not _is_ours(known):
        if fresh:
            raise EnvironmentProblem(
                f"{path} says nothing that a sweep would write, and is {max(age, 0):.0f} s old; if no sweep runs on this study, remove it, "
                f"or wait until it is {STALE_S:.0f} s old."
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
    """When a process of this machine was started: a number may be given to another process; None where there is none."""
    try:
        return psutil.Process(pid).create_time()
    except (psutil.Error, OverflowError, ValueError):
        return None


def _age(path: Path, clock: Path) -> float | None:
    """Seconds since the lock was touched, by the clock of the storage: that of this machine may be another. None: there is no lock."""
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
    """Whether it is what a sweep writes."""
    if not isinstance(known, dict) or not all(isinstance(known.get(k), str) for k in ("host", "machine")):
        return False
    pid, times = known.get("pid"), [known.get("since"), known.get("started")]
    return type(pid) is int and 0 < pid < 2**31 and all(_is_time(t) for t in times)


def _is_time(value: Any) -> bool:
    """Of this calendar: others cannot be shown."""
    return type(value) in (int, float) and 0 <= value < 4e9
