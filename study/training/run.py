"""Running one trial to its end: resume, train, keep the best checkpoint, predict if it may. The same under Ray, torchrun or neither.

The caller gives `report(EpochRecord)`, called on every worker after every epoch; it returns True to stop.
"""

import gc
import logging
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from study.config import TrialConfig
from study.files import Folder
from study.records import EpochRecord, Outcome, dumps
from study.training import checkpoint, distributed
from study.training.inputs import Inputs
from study.training.loop import DivergedError, State, fine_tune

log = logging.getLogger(__name__)
ATTEMPTS = "attempts.jsonl"  # a line for every start of a trial
OUT_OF_MEMORY = "out_of_memory"
CHECKPOINT_SECONDS = 10.0  # at most this much work, or one epoch, is done again after a kill


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where a trial finds its data and leaves its checkpoints; plain strings, so that it travels to any worker."""

    folder: str  # the trial's own, local path or URL
    data: str | None = None
    weights: str | None = None
    cache: str | None = None

    def paths(self) -> tuple[Path | None, Path | None]:
        return (Path(self.data) if self.data else None, Path(self.cache) if self.cache else None)


@dataclass(frozen=True, kw_only=True)
class Ending:
    outcome: Outcome
    reason: str = ""


def run_trial(
    config: TrialConfig,
    work: Workspace,
    report: Callable[[EpochRecord], bool],
    *,
    predict_test: bool = False,
) -> Ending:
    """Trains `config`, going on from its newest valid checkpoint. Errors of the user's making are raised as they are.

    Out of memory, the device's or the host's, is retried once with half the batch at a time and gradients accumulated:
    same effective batch.
    """
    folder = Folder(work.folder)
    if distributed.rank() == 0:
        now = {"at": time.time(), "host": platform.node(), "pid": os.getpid()}
        folder.append_line(ATTEMPTS, dumps(now).encode())
    if not folder.exists(OUT_OF_MEMORY):
        try:
            return _attempt(config, work, report, predict_test, micro_batches=1)
        except (torch.OutOfMemoryError, MemoryError) as error:
            log.warning("out of memory (%s); once more with half the batch at a time", error)
            if distributed.world() > 1:
                mark_out_of_memory(folder)
                raise  # the other workers hang in this step: all start again
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    try:
        return _attempt(config, work, report, predict_test, micro_batches=2)
    except (torch.OutOfMemoryError, MemoryError) as error:
        reason = f"out of memory, with half the batch at a time too ({error})"
        if distributed.world() > 1:
            raise RuntimeError(reason) from None  # not an ending of this worker's alone: the others wait for it
        return Ending(outcome=Outcome.FAILED, reason=reason)


def mark_out_of_memory(folder: Folder) -> None:
    """Whoever learns that a trial ran out of memory leaves this for its next attempt."""
    folder.write(OUT_OF_MEMORY, b"")


def _attempt(config: TrialConfig, work: Workspace, report: Callable[[EpochRecord], bool], predict_test: bool, micro_batches: int) -> Ending:
    folder = Folder(work.folder)
    data, cache = work.paths()
    inputs = Inputs(config, data=data, cache=cache)
    saved = checkpoint.load_newest(folder, trial=config.id)
    for values in saved["history"] if saved else []:
        report(EpochRecord.from_dict(values))  # a report may have been lost with the process that awaited it
    facts = {"trial": config.id, "backbone": config.cell.backbone, "classes": list(inputs.table.classes)}
    leader = distributed.rank() == 0
    ending, saved_at = Ending(outcome=Outcome.COMPLETED), time.monotonic()
    best = max((EpochRecord.from_dict(r).objective for r in saved["history"]), default=-math.inf) if saved else -math.inf
    try:
        for record, state in fine_tune(config, inputs, weights=work.weights, saved=saved, micro_batches=micro_batches):
            if leader:
                if record.objective > best:
                    keep_best(folder, config, state, {**facts, **_shown(inputs, config)})
                if record.epoch == config.protocol.max_epochs or time.monotonic() - saved_at >= CHECKPOINT_SECONDS:
                    checkpoint.save_newest(folder, record.epoch, state.as_dict(), facts)
                    saved_at = time.monotonic()
            best = max(best, record.objective)
            try:
                stop = report(record)
            except InterruptedError:  # a signal: whoever goes on starts from this epoch
                if leader:
                    checkpoint.save_newest(folder, record.epoch, state.as_dict(), facts)
                raise
            if stop:
                ending = Ending(outcome=Outcome.STOPPED, reason=f"stopped by the scheduler after epoch {record.epoch}")
                break
    except DivergedError as error:
        return Ending(outcome=Outcome.DIVERGED, reason=str(error))
    if predict_test and ending.outcome is Outcome.COMPLETED:
        from study.predict import write_predictions

        write_predictions(config, work)
    return ending


def keep_best(folder: Folder, config: TrialConfig, state: State, facts: dict[str, Any]) -> None:
    """Weights at the best epoch so far: the whole network, so that it can be used without anything else."""
    checkpoint.save_weights(
        folder, "best", state.model.network_state(), {**facts, "arguments": state.model.arguments, "epoch": state.history[-1].epoch}
    )


def _shown(inputs: Inputs, config: TrialConfig) -> dict[str, Any]:
    """What a predictor must know to show images to the network as training did."""
    return {"image_size": config.protocol.image_size, "precision": config.protocol.precision, "channels": inputs.table.channels}
