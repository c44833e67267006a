"""What a person sees while a study runs: a live line per trial and one bar on a terminal, plain lines in a log."""

import logging
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from study.facts import shown
from study.records import Ask, EpochRecord, TrialResult

log = logging.getLogger("study")


class Watch:
    """Told of every event by the conductor; use as a context manager around a stage."""

    def __init__(self, title: str, total: int, done: int, max_epochs: int) -> None:
        self.title, self.total, self.done, self.max_epochs = title, total, done, max_epochs
        self.console = Console(stderr=False)
        self.live: Live | None = None
        self.lines: dict[str, str] = {}
        self.seconds: list[float] = []
        self.bar = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=self.console
        )
        self.task = self.bar.add_task(title, total=total, completed=done)

    def __enter__(self) -> "Watch":
        if self.console.is_terminal:
            self.live = Live(self._view(), console=self.console, refresh_per_second=4)
            self.live.start()
        else:
            self._say(f"{self.title}: {self.total} trials, {self.done} done already")
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, event: str, ask: Ask, value: object) -> None:
        name = f"{ask.cell} #{ask.number}"
        if event == "start":
            self._set(ask.trial_id, f"{name} starting")
        elif isinstance(value, EpochRecord):
            text = (
                f"{name} epoch {value.epoch}/{self.max_epochs} val macro-F1 {value.objective:.3f} "
                f"loss {value.metrics.get('train/loss', float('nan')):.3f} {value.seconds:.1f}s"
            )
            self._set(ask.trial_id, text)
            self._say(text)
        elif isinstance(value, TrialResult):
            self.lines.pop(ask.trial_id, None)
            self.done += 1
            self.bar.update(self.task, completed=self.done)
            score = f"best val macro-F1 {value.metrics['val/macro_f1']:.3f}" if value.metrics else shown(value.reason)
            self._say(f"[{self.done}/{self.total}] {name} {value.outcome}: {score} ({value.epochs} epochs, {value.seconds:.0f}s)")
            if "straggler" in value.facts:
                warn(f"{name}: {value.facts['straggler']}")
        if self.live is not None:
            self.live.update(self._view())

    def _set(self, trial_id: str, text: str) -> None:
        self.lines[trial_id] = text

    def _say(self, text: str) -> None:
        if self.live is None:
            print(time.strftime("%H:%M:%S"), text, flush=True)
        elif text.startswith("["):
            self.live.console.print(text, markup=False, highlight=False)

    def _view(self) -> Table:
        view = Table.grid()
        for line in self.lines.values():
            view.add_row(line)
        view.add_row(self.bar)
        return view


def warn(message: str) -> None:
    print(f"warning: {shown(message)}", file=sys.stderr, flush=True)
