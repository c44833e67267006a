"""One sweep per study at a time: a lock that says who holds it, and that a dead process cannot keep.

A holder is dead for certain only where its process could be seen: on this very machine, in this very space of process numbers.
Everywhere else, and where the lock cannot be understood, its age decides: a living holder touches it every BEAT_S.
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
from study.files import Folder, make_private
from study.records import dumps
from study.refusals import explained

STALE_S = 120.0  # a holder that cannot be seen and has not touched its lock this long is taken for dead
BEAT_S = STALE_S / 4  # how often a holder touches its lock


@contextlib.contextmanager
def held(folder: Folder) -> Iterator[None]:
    """Holds `<study>/.lock`, touching it every BEAT_S. Raises EnvironmentProblem, naming host, pid and since when, if another sweep does."""
    if folder.remote:
        yield  # object stores have no locks; names of studies are the users' care there
        return
    with explained(folder.path(".lock")):
        make_private(folder.root)
        guard = FileLock(folder.path(".lock.guard"), mode=0o600)
        path = Path(folder.path(".lock"))
        mine = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": time.time(),
            "started": _started(os.getpid()),
            "machine": machine(),
        }
        try:
            with guard.acquire(timeout=10):
                _refuse_if_held(path, _age(path, Path(folder.path(".lock.guard"))))
                folder.write(".lock", dumps(mine).encode())
        except Timeout:
            raise EnvironmentProblem(f"{path} is being taken by another sweep right now; run the same command again.") from None
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, mine, ended), name="study-lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join(timeout=10)  # shared storage that hangs must not keep us from ending
        with contextlib.suppress(OSError):
            if _contents(path) == mine:
                path.unlink()


def machine() -> str:
    """This machine since it was started, and this space of process numbers: containers share the one, hosts of one name share neither."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def _beat(path: Path, mine: dict[str, Any], ended: threading.Event) -> None:
    """Shows sweeps on other hosts that this one lives, however long it has nothing to say. Another's lock is left alone."""
    while not ended.wait(BEAT_S):
        with contextlib.suppress(OSError):
            if _contents(path) == mine:
                os.utime(path)


def _refuse_if_held(path: Path, age: float | None) -> None:
    """Raises EnvironmentProblem unless the lock is absent, stale, or its holder certainly dead. `age` in seconds; None: absent."""
    if age is None:
        return
    known, fresh = _contents(path), age < STALE_S
    if not _is_ours(known):
        if fresh:
            raise EnvironmentProblem(
                f"{path} says nothing that a sweep would write, and is {max(age, 0):.0f} s old; if no sweep runs on this study, remove it, "
                f"or wait until it is {STALE_S:.0f} s old."
            )
        return
    here = known["machine"] == machine() if "machine" in known else known["host"] == socket.gethostname()
    alive = here and _started(known["pid"]) == known["started"]
    if not alive and (not fresh or (here and "machine" in known)):
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


def _contents(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes().decode())
    except (OSError, ValueError, RecursionError):
        return None


def _is_ours(known: Any) -> bool:
    """What a sweep writes, version 0.1 without `machine`."""
    if not isinstance(known, dict) or not all(isinstance(known.get(k, ""), str) for k in ("host", "machine")):
        return False
    pid, times = known.get("pid"), [known.get("since"), known.get("started")]
    return "host" in known and type(pid) is int and 0 < pid < 2**31 and all(_is_time(t) for t in times)


def _is_time(value: Any) -> bool:
    """Of this calendar: others cannot be shown."""
    return type(value) in (int, float) and 0 <= value < 4e9
