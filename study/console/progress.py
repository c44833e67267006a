"""The display while a study runs: on a terminal a live line per trial, one bar and the time left; in a log plain lines.

A log is never silent for longer than `QUIET_S`: then the running work, its start and the time left are printed again.
"""

import contextlib
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from study import early
from study.console.eta import Remaining, Running, pixels, times
from study.console.text import shown, span
from study.records import Ask, EpochRecord, TrialResult
from study.scoring import metric_of

log = logging.getLogger("study")
QUIET_S = 10.0
SOON_S = 1.5  # until a command says what it loads


class Names:
    """Short names of cells: common parts are left out, and a folder is shown by its last part."""

    def __init__(self, cells: Sequence[str]) -> None:
        """Set up the names. `cells`: ids, as `Cell.id` writes them."""
        rows = [_parts(c) for c in cells]
        self._kept = [k for k in range(PARTS) if len({r[k] for r in rows if len(r) == PARTS}) > 1] or [3]
        full = {r[0] for r in rows}
        last = {name: name.rstrip("/").rpartition("/")[2] for name in full}
        self._dataset = last if len(set(last.values())) == len(full) else {}

    def __call__(self, cell: str) -> str:
        parts = _parts(cell)
        if len(parts) != PARTS:
            return shown(cell)
        named = (self._dataset.get(parts[k], parts[k]) if k == 0 else parts[k] for k in self._kept)
        return shown(" ".join(part for part in named if part))


PARTS = 7


def _scored(ask: Ask, score: float) -> str:
    """ "macro-F1 0.831": the metric that the trial is scored by, and its natural value."""
    metric = metric_of(ask.config)
    return f"{metric.words} {metric.natural(score):.3f}"


def _parts(cell: str) -> list[str]:
    """Return data set, splits, backbone, strategy, fraction, budget ("3x"), size of images ("128px"; empty for the study's)."""
    *parts, last = cell.rsplit("/", 4)
    fraction, *own = last.split(",")
    size = next((part for part in own if part.endswith("px")), "")
    return [*parts, fraction, next((part for part in own if part != size), "1x"), size]


@dataclass(frozen=True)
class _Line:
    """A running trial, as it is shown."""

    ask: Ask
    name: str
    since: float
    epochs: int = 0
    last: float = 0.0  # when the last of them ended
    text: str = "starting"

    def max_epochs(self, usual: int) -> int:
        """Return the trial's own number of epochs: a run of the budget check trains longer."""
        return int(self.ask.config.get("protocol", {}).get("max_epochs", usual))

    def running(self, now: float, of: Remaining) -> Running:
        trained, size = max(self.last - self.since, 0.0), of.image_size
        return Running(
            cell=self.ask.cell,
            whole=times(self.ask, of.max_epochs, size),
            seconds=now - self.since,
            epochs=self.epochs * pixels(self.ask, size),
            trained=trained,
        )


class Watch:
    """A context manager around a stage that shows every event of the conductor."""

    def __init__(
        self, title: str, total: int, done: int, max_epochs: int, names: Callable[[str], str] = shown, remaining: Remaining | None = None
    ) -> None:
        self.title, self.total, self.done, self.max_epochs = title, total, done, max_epochs
        self.names, self.remaining = names, remaining or Remaining(max_epochs=max_epochs)
        self.console = Console(stderr=False)
        self.live: Live | None = None
        self.running: dict[str, _Line] = {}  # replaced, never changed: another thread reads it
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console,
        )
        self.task = self.bar.add_task(title, total=total, completed=done, left="")
        self._voice = _Voice()

    def __enter__(self) -> "Watch":
        if self.console.is_terminal:
            self.live = Live(console=self.console, refresh_per_second=1, get_renderable=self._view)
            self.live.start()
        else:
            self._voice.say(f"{self.title}: {self.total} trials, {self.done} done already")
            self._voice.start(self._heartbeat)
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()
        self._voice.stop()

    def __call__(self, event: str, ask: Ask, value: object) -> None:
        name = f"{self.names(ask.cell)} #{ask.number}"
        if event == "start":
            self.running = {**self.running, ask.trial_id: _Line(ask, name, time.monotonic())}
        elif isinstance(value, EpochRecord):
            line = self.running.get(ask.trial_id) or _Line(ask, name, time.monotonic() - value.seconds)
            score = f"val {_scored(ask, value.objective)} " if math.isfinite(value.objective) else ""
            loss = value.metrics.get("train/loss", float("nan"))
            text = f"epoch {value.epoch}/{line.max_epochs(self.max_epochs)} {score}loss {loss:.3f} {value.seconds:.1f}s"
            self.running = {**self.running, ask.trial_id: _Line(ask, name, line.since, line.epochs + 1, time.monotonic(), text)}
            if self.live is None:
                self._voice.say(f"{name} {text}")
        elif isinstance(value, TrialResult):
            own = self.running.get(ask.trial_id)
            self.running = {k: v for k, v in self.running.items() if k != ask.trial_id}
            self.done += 1
            if own is not None and value.epochs:
                passed = value.epochs * pixels(ask, self.remaining.image_size)
                self.remaining.measured(ask.cell, max(time.monotonic() - own.since, value.seconds), passed)
            self.remaining.done(ask.cell, times(ask, self.max_epochs, self.remaining.image_size))
            self.bar.update(self.task, completed=self.done)
            known = value.objective
            score = f"val {_scored(ask, known)}" if known is not None else shown(value.reason) or "no validation image was left"
            ended = f"[{self.done}/{self.total}] {name} {value.outcome}: {score} ({value.epochs} epochs, {value.seconds:.0f}s)"
            if self.live is None:
                self._voice.say(f"{ended}{self._left(', ')}")
            else:
                self.live.console.print(ended, markup=False, highlight=False)
            if "straggler" in value.facts:
                warn(f"{name}: {value.facts['straggler']}")

    def _left(self, before: str = "") -> str:
        now = time.monotonic()
        left = self.remaining.left({k: r.running(now, self.remaining) for k, r in self.running.items()})
        return "" if left is None else f"{before}{span(left)} left of {self.remaining.of}"

    def _heartbeat(self) -> str:
        now = time.monotonic()
        own = "; ".join(
            f"{r.name} epoch {min(r.epochs + 1, r.max_epochs(self.max_epochs))}/{r.max_epochs(self.max_epochs)} for {span(now - r.since)}"
            for r in self.running.values()
        )
        return f"{self.title} {self.done}/{self.total}: {own or 'waiting for a worker'}{self._left('; ')}"

    def _view(self) -> Table:
        view = Table.grid()
        for own in list(self.running.values()):
            view.add_row(f"{own.name} {own.text}")
        self.bar.update(self.task, left=self._left())
        view.add_row(self.bar)
        return view


class _Voice:
    """A printer of lines with the time before them, which also prints where the log was silent for too long."""

    def __init__(self, stream: TextIO | None = None, first: float | None = None) -> None:
        """Set up the printer on stdout, or `stream`; `first`: seconds of silence before it prints the first time."""
        self._said, self._over, self._lock = time.monotonic(), threading.Event(), threading.Lock()
        self._stream, self._quiet = stream, QUIET_S if first is None else first
        self._thread: threading.Thread | None = None

    def say(self, text: str) -> None:
        with self._lock:
            print(time.strftime("%H:%M:%S"), text, file=self._stream, flush=True)
            self._said, self._quiet = time.monotonic(), QUIET_S

    def start(self, text: Callable[[], str]) -> None:
        self._thread = threading.Thread(target=self._beat, args=(text,), name="study-voice", daemon=True)
        self._thread.start()

    def _beat(self, text: Callable[[], str]) -> None:
        while not self._over.wait(max(self._said + self._quiet - time.monotonic(), 0.01)):
            if time.monotonic() - self._said >= self._quiet:
                self.say(text())

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()


@contextlib.contextmanager
def busy(what: str, *, announced: bool = False, soon: bool = False, stream: TextIO | None = None) -> Iterator[None]:
    """Print what is going on where it lasts, `soon`, and, `announced`, when it begins: `busy("starting Ray on 2 cores")`."""
    voice, began = _Voice(stream, SOON_S if soon else None), time.monotonic()
    if announced:
        voice.say(f"{what} ...")
    voice.start(lambda: f"{what}, for {span(time.monotonic() - began)}")
    try:
        yield
    finally:
        voice.stop()


def load(*modules: str, what: str = "PyTorch") -> None:
    """Load modules that take seconds, and say so on stderr, since stdout is for the command's result."""
    with busy(f"loading {what}", soon=True, stream=sys.stderr), early.at_once():
        for module in modules:
            import_module(module)


def warn(message: str) -> None:
    print(f"warning: {shown(message)}", file=sys.stderr, flush=True)
