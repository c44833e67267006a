"""One start of the sweep's command, watched from outside: its present moment, its processes, and how it ended."""

import contextlib
import json
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil

MOMENTS = ("start", "search", "confirm", "report")
LEFT_S = 150.0  # Ray's own agents need up to two minutes to see that their raylet is gone
SILENT_S = 150.0
MARK = "KILLS_START"  # in the environment of every process of a start, whoever its parent is by now


class Start:
    def __init__(self, command: list[str], env: dict[str, str], study_file: Path) -> None:
        self.study_file, self.began, self.mark = study_file, time.time(), uuid.uuid4().hex
        self.lines: list[str] = []
        self.family: set[psutil.Process] = set()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=env | {MARK: self.mark, "COLUMNS": "300"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def moment(self) -> str:
        """Return the present moment by its output, and for the report by the files it wrote."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads(self.study_file.read_text())["facts"].get("finished_at", 0) > self.began:
                return "report"
        for stage in ("confirm", "search"):
            if any(f" {stage}: " in line for line in self.lines):
                return stage
        return "start"

    def runs(self) -> bool:
        return self.process.poll() is None

    def reach(self, moment: str, seconds: float) -> bool:
        """Wait for the moment. Return False where it has passed, or where the process has ended."""
        deadline = time.monotonic() + seconds
        while self.runs() and time.monotonic() < deadline and MOMENTS.index(self.moment()) < MOMENTS.index(moment):
            time.sleep(0.05)
        return self.runs() and self.moment() == moment

    def left_of(self, moment: str) -> float:
        """Return the share of a stage that was left to do when this start came to it."""
        for line in self.lines:
            if found := re.search(rf" {moment}: (\d+) trials, (\d+) done already", line):
                return 1 - int(found[2]) / int(found[1])
        return 1.0

    def watch(self) -> dict[str, float]:
        """Wait for its end and return the seconds spent in each moment."""
        lengths, last = dict.fromkeys(MOMENTS, 0.0), time.monotonic()
        while self.runs():
            time.sleep(0.1)
            now = time.monotonic()
            lengths[self.moment()] += now - last
            last = now
        return lengths

    def wait(self, seconds: float) -> int | None:
        """Return its exit code, or None where it still runs."""
        deadline = time.monotonic() + seconds
        while self.runs() and time.monotonic() < deadline:
            self.remember_family()
            time.sleep(0.5)
        if not self.runs():
            self._reader.join(2)
        return self.process.poll()

    def kill(self) -> None:
        self.remember_family()
        self.process.kill()
        self.process.wait()

    def last_line(self) -> str:
        """Return its last line of output, or an error rather than anything else.

        Addresses are left out, so that equal endings count together.
        """
        said = [line for line in self.lines if "error: " in line or "Traceback" in line] or self.lines[-1:]
        return re.sub(r"\d+\.\d+\.\d+\.\d+:\d+|/tmp/\S+|\d\d:\d\d:\d\d", "…", said[-1])[:200] if said else ""  # noqa: S108

    # -- processes -------------------------------------------------------------------------------------
    def remember_family(self) -> None:
        with contextlib.suppress(psutil.Error):
            self.family |= set(psutil.Process(self.process.pid).children(recursive=True))

    def find(self, is_it: Callable[[psutil.Process], bool] | None) -> list[psutil.Process]:
        """Return the living processes of this start that `is_it` accepts. None means the driver."""
        if is_it is None:
            return [psutil.Process(self.process.pid)] if self.runs() else []
        found = []
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if is_it(process) and _lives(process):
                        found.append(process)
        return found

    def left(self) -> list[psutil.Process]:
        """Return its living processes: those seen as its children, and those that carry its mark."""
        marked = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self.mark:
                    marked.add(process)
        return [p for p in self.family | marked if p.pid != self.process.pid and _lives(p)]

    def wait_for_followers(self) -> None:
        """Wait for the followers of this study's earlier starts, which may still be sending."""
        study = str(self.study_file.parent)
        deadline = time.monotonic() + LEFT_S
        while time.monotonic() < deadline and any(_follows(p, study) for p in psutil.process_iter()):
            time.sleep(0.5)

    def end_what_is_left(self) -> list[str]:
        """End the processes that still live, so that later studies meet none of them, and return their names."""
        names = []
        for process in self.left():
            with contextlib.suppress(psutil.Error):
                names.append(" ".join(process.cmdline())[:120])
                process.kill()
        return names


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _follows(process: psutil.Process, study: str) -> bool:
    with contextlib.suppress(psutil.Error):
        line = process.cmdline()
        return "study.tracking" in line and study in line
    return False
