"""One sweep per study at a time: a lock that says who holds it, and that a dead process cannot keep."""

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
from study.files import Folder, explained, make_private
from study.records import dumps

STALE_S = 120.0  # on shared storage, a holder on another host that has not touched its lock this long is taken for dead
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
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "started": psutil.Process().create_time()}
        try:
            with guard.acquire(timeout=10):
                if (holder := _holder(path)) is not None:
                    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(holder["since"]))
                    raise EnvironmentProblem(
                        f"study in use by pid {holder['pid']} on {holder['host']} since {since} ({path}); "
                        "wait for it, end it, or choose another --name."
                    )
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
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text()) == mine:
                path.unlink()


def _beat(path: Path, mine: dict[str, Any], ended: threading.Event) -> None:
    """Shows sweeps on other hosts that this one lives, however long it has nothing to say. Another's lock is left alone."""
    while not ended.wait(BEAT_S):
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text()) == mine:
                os.utime(path)


def _holder(path: Path) -> dict[str, Any] | None:
    """Who holds the lock, or None where nobody alive does."""
    try:
        known: dict[str, Any] = json.loads(path.read_text())
        age = time.time() - path.stat().st_mtime
    except (OSError, ValueError):
        return None
    if known.get("host") != socket.gethostname():
        return known if age < STALE_S else None
    try:
        alive = psutil.Process(int(str(known["pid"]))).create_time() == known.get("started")
    except psutil.NoSuchProcess:
        alive = False
    return known if alive else None
