"""The link between a plan and its runner: it writes the ledger, keeps the live view, and turns endings into results.

It runs in the sweep's own process only, so the ledger has one writer.
"""

import logging
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from study.errors import EnvironmentProblem
from study.failpoints import failpoint
from study.metrics import class_scores
from study.question.trial_config import TrialConfig
from study.question.which_epoch import kept_epoch
from study.records import Ask, EpochRecord, Outcome, TrialResult
from study.search.plans import Plan
from study.tracking.ledger import Ledger

log = logging.getLogger(__name__)


class Conductor:
    """The link between a plan and its runner. `watch` gets every event: ("start", ask, None), ("epoch", ask, record), ("end", ask,
    result)."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        classes: Callable[[TrialConfig], list[str]],
        watch: Callable[[str, Ask, object], None],
        measurements: tuple[str, ...] = (),
    ) -> None:
        """Set up the link. `measurements`: those that a completed trial must have left in the ledger."""
        self.plan, self.ledger, self.classes, self.watch, self.measurements = plan, ledger, classes, watch, measurements
        self.running: dict[str, Ask] = {}
        self._again: deque[Ask] = deque()
        self.events = 0  # epochs and endings: whether anything moves
        self.started: dict[str, float] = {}

    @property
    def cells(self) -> int:
        """Return the number of the study's cells."""
        study = self.ledger.study()
        return len(study.cells) if study else 0

    def __getstate__(self) -> dict[str, object]:
        return {}  # Tune pickles its searcher; nothing of ours lives in that file

    def ask(self) -> Ask | None:
        ask = self._again.popleft() if self._again else self.plan.ask()
        failpoint("after_ask")
        if ask is None:
            return None
        if self.ledger.ask(ask.trial_id) is None:
            self.ledger.write_ask(ask)
        failpoint("after_ledger_insert")
        self.running[ask.trial_id] = ask
        self.started[ask.trial_id] = time.time()
        return ask

    def begin(self, trial_id: str) -> None:
        """Say that a worker has the trial, which may be long after it was asked for where others hold the processors."""
        if (ask := self.running.get(trial_id)) is not None:
            self.started[trial_id] = time.time()
            self.watch("start", ask, None)

    def ask_again(self) -> None:
        """Ask again for the trials that were lost with their runner; they resume from their checkpoints."""
        self._again.extend(self.running.values())
        self.running.clear()

    def epoch(self, trial_id: str, record: EpochRecord) -> bool:
        """Record a completed epoch; return True where the trial must stop (its result is written already)."""
        ask = self.running.get(trial_id)
        if ask is None:
            return True
        seen = [e.epoch for e in self.ledger.epochs(trial_id)]
        if record.epoch in seen:
            # Repeated after a restart. The plan may not have seen it: its memory is this process's. Past an epoch that is not the last
            # one known the trial was let go on: that stands, whatever the others have reached since.
            stop = self.plan.report(ask, record) and record.epoch == max(seen)
            return self._stop(ask, record) if stop else False
        failpoint("before_report")
        self.ledger.append_epoch(trial_id, record)
        self.events += 1
        failpoint("after_report")
        self.watch("epoch", ask, record)
        return self._stop(ask, record) if self.plan.report(ask, record) else False

    def _stop(self, ask: Ask, record: EpochRecord) -> bool:
        self.end(ask.trial_id, Outcome.STOPPED, f"stopped by the scheduler after epoch {record.epoch}")
        return True

    def end(self, trial_id: str, outcome: Outcome, reason: str = "") -> None:
        """End the trial; a second call for the same trial changes nothing.

        It is recorded as completed only after its measurements were read back here: a verdict must not rest on files that stayed on a
        worker's own disk. Raises EnvironmentProblem where they did.
        """
        ask = self.running.get(trial_id)
        if ask is None:
            return
        if outcome is Outcome.COMPLETED:
            self._read_back(ask)
        del self.running[trial_id]
        self.events += 1
        known = self.ledger.result(trial_id)
        measured_only = outcome is Outcome.COMPLETED and known is not None and known.outcome is Outcome.COMPLETED
        result = known if known is not None and measured_only else self._result(ask, outcome, reason)
        failpoint("before_tell")
        if result is not known:  # what it took to train stands as it was
            self.ledger.write_result(result)
        failpoint("after_tell")
        self.plan.tell(ask, result)
        self.ledger.trial_folder(trial_id).remove("checkpoint")  # only unfinished trials need to go on from it
        self.watch("end", ask, result)

    def _read_back(self, ask: Ask) -> None:
        lost = [n for n in self.measurements if not self.ledger.measured(ask.trial_id, n)]
        if lost:
            hosts = sorted({str(e.facts.get("host", "")) for e in self.ledger.epochs(ask.trial_id)} - {""}) or ["its worker"]
            raise EnvironmentProblem(
                f"{ask.cell} #{ask.number} ended on {', '.join(hosts)}, but its {', '.join(lost)} are not in "
                f"{self.ledger.trial_folder(ask.trial_id).location}: every node must see the same --results folder. Then run the "
                "same command again."
            )

    def _result(self, ask: Ask, outcome: Outcome, reason: str) -> TrialResult:
        epochs = self.ledger.epochs(ask.trial_id)
        config = TrialConfig.from_dict(ask.config)
        if outcome is Outcome.COMPLETED and not epochs:
            outcome, reason = Outcome.FAILED, "ended without a completed epoch"
        kept = kept_epoch(config.protocol, epochs) if outcome in (Outcome.COMPLETED, Outcome.STOPPED) else None
        return TrialResult(
            trial_id=ask.trial_id,
            outcome=outcome,
            reason=reason,
            epochs=len(epochs),
            best_epoch=kept.epoch if kept else None,
            metrics=kept.metrics if kept else {},
            classes=self.classes(config),
            val=class_scores(np.array(kept.confusion)) if kept and kept.confusion else None,
            seconds=sum(e.seconds for e in epochs),
            images=sum(e.images for e in epochs),
            workers=config.protocol.workers,
            device=str(epochs[-1].facts.get("device", "")) if epochs else "",
            attempts=max(self.ledger.attempts(ask.trial_id), 1),
            started_at=self.started.get(ask.trial_id, time.time()),
            ended_at=time.time(),
            facts=(epochs[-1].facts | _processor(epochs) | _straggler(epochs)) if epochs else {},
        )


def _processor(epochs: list[EpochRecord]) -> dict[str, float]:
    """Return the processor seconds over all epochs and workers, where every epoch has them."""
    if any("cpu_seconds" not in e.facts for e in epochs):
        return {}
    return {"cpu_seconds": sum(e.facts["cpu_seconds"] for e in epochs)}


SLOW = 2.0  # times the others' median: a worker that slow holds the whole group back


def _straggler(epochs: list[EpochRecord]) -> dict[str, str]:
    """Return the worker whose own work, without waiting, took much longer than the others'."""
    paces = [e.facts["busy_seconds"] for e in epochs if len(e.facts.get("busy_seconds", [])) > 1]
    if not paces or len({len(p) for p in paces}) > 1:
        return {}
    spent = np.median(np.array(paces), axis=0)  # an epoch in which one worker computed activations for all says nothing
    slowest = int(spent.argmax())
    ratio = float(spent[slowest] / max(np.median(np.delete(spent, slowest)), 1e-9))
    return {"straggler": f"worker {slowest} of {len(spent)} took {ratio:.1f} times as long as the others"} if ratio > SLOW else {}
