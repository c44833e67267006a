"""One trial to its end: resume, train, keep its network, measure it. No other module calls training and measuring.

It runs the same under Ray, torchrun or neither. The caller gives `report(EpochRecord)`, called on every worker after every epoch; it
returns True to stop.
"""

import functools
import gc
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from study.datasets import open_dataset, subsample
from study.datasets.cache import cache_folder, pixels
from study.datasets.labelled import read_labelled
from study.datasets.spec import ImageTable, with_validation
from study.datasets.visible import cut_off_test
from study.measure import find_measurements
from study.measure.base import Finished, Images, NotMeasured, measure
from study.networks.kept import NAME as BEST
from study.networks.kept import Kept, keep
from study.networks.pretrained import Backbone, create
from study.networks.weights import timm_name
from study.question.naming import DataName
from study.question.trial_config import TrialConfig
from study.question.which_epoch import may_be_kept
from study.records import EpochRecord, Outcome, dumps
from study.storage import checkpoint, parquet
from study.storage.folder import Folder
from study.storage.places import Places
from study.training import distributed
from study.training.augment import HEADROOM
from study.training.divergence import DivergedError
from study.training.exact import solve
from study.training.inputs import Inputs
from study.training.loop import fine_tune
from study.use.predictor import Predictor

log = logging.getLogger(__name__)
ATTEMPTS = "attempts.jsonl"  # a line for every start of a trial
OUT_OF_MEMORY = "out_of_memory"
CHECKPOINT_SECONDS = 10.0  # at most this much work, or one epoch, is done again after a kill


@dataclass(frozen=True, kw_only=True)
class Ending:
    outcome: Outcome
    reason: str = ""


Report = Callable[[EpochRecord], bool]


def run_trial(
    config: TrialConfig,
    places: Places,
    report: Report,
    *,
    measurements: tuple[str, ...] = (),
    curve: bool = True,
    stops: Collection[int] = (),
    leaving: Callable[[], bool] = lambda: False,
) -> Ending:
    """Train `config`, continuing from its newest valid checkpoint; measure a trial that completes.

    Errors that the user can mend are raised as they are. Without `curve` only the kept epoch is evaluated (`training.loop.fine_tune`).
    After the epochs in `stops` it may be stopped, by `report` or from outside: its network is whole by then. While `leaving` returns
    True, this machine will soon be gone, and every epoch leaves a checkpoint.

    A trial that runs out of memory, on the device or the host, is repeated once with half the batch at a time and accumulated gradients,
    so the effective batch is the same.
    """
    folder = Folder(places.folder)
    if distributed.rank() == 0:
        now = {"at": time.time(), "host": platform.node(), "pid": os.getpid()}
        folder.append_line(ATTEMPTS, dumps(now).encode())
    if not folder.exists(OUT_OF_MEMORY):
        try:
            return _attempt(config, places, report, measurements, curve, stops, leaving, micro_batches=1)
        except (torch.OutOfMemoryError, MemoryError) as error:
            log.warning("out of memory (%s). Once more with half the batch at a time", error)
            if distributed.world() > 1:
                mark_out_of_memory(folder)
                raise  # the other workers hang in this step: all start again
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    try:
        return _attempt(config, places, report, measurements, curve, stops, leaving, micro_batches=2)
    except (torch.OutOfMemoryError, MemoryError) as error:
        reason = f"out of memory, with half the batch at a time too ({error})"
        if distributed.world() > 1:
            raise RuntimeError(reason) from None  # not an ending of this worker's alone: the others wait for it
        return Ending(outcome=Outcome.FAILED, reason=reason)


def mark_out_of_memory(folder: Folder) -> None:
    """Mark that a trial ran out of memory, for its next attempt."""
    folder.write(OUT_OF_MEMORY, b"")


def _attempt(
    config: TrialConfig,
    places: Places,
    report: Report,
    measurements: tuple[str, ...],
    curve: bool,
    stops: Collection[int],
    leaving: Callable[[], bool],
    micro_batches: int,
) -> Ending:
    folder = Folder(places.folder)
    if measurements and was_completed(folder, config):
        left = tuple(n for n in measurements if not folder.exists(f"measured/{n}.parquet"))
        distributed.barrier()  # before anybody writes one
        measure_trial(config, places, left, folder)
        return Ending(outcome=Outcome.COMPLETED)
    inputs = open_inputs(config, places)
    if config.strategy.exact:
        ending = _solve(config, places, inputs, report)
    else:
        ending = _train(config, places, inputs, report, micro_batches, curve, stops, leaving)
    if measurements and ending.outcome is Outcome.COMPLETED:
        distributed.barrier()  # rank 0 may still be writing the network
        measure_trial(config, places, measurements, folder)
    return ending


def was_completed(folder: Folder, config: TrialConfig) -> bool:
    """Return True where the trial was completed before and its network is whole: a measurement added later needs no training."""
    data = folder.read("result.json")
    if data is None or json.loads(data).get("outcome") != Outcome.COMPLETED:
        return False
    return checkpoint.load_weights(folder, BEST, trial=config.id) is not None


def _train(
    config: TrialConfig,
    places: Places,
    inputs: Inputs,
    report: Report,
    micro_batches: int,
    curve: bool,
    stops: Collection[int],
    leaving: Callable[[], bool],
) -> Ending:
    """Train and return the ending. The network is written before the epoch's checkpoint and before the report, so a kill never loses
    it."""
    folder, protocol = Folder(places.folder), config.protocol
    saved = checkpoint.load_newest(folder, trial=config.id)
    history = [EpochRecord.from_dict(values) for values in saved["history"]] if saved else []
    for record in history:
        if report(record):  # a report may have been lost with the process that awaited it
            return _stopped(record)
    facts = {"trial": config.id}
    leader, saved_at = distributed.rank() == 0, time.monotonic()
    try:
        epochs = fine_tune(config, inputs, weights=places.weights, saved=saved, micro_batches=micro_batches, curve=curve, stops=stops)
        for record, state in epochs:
            kept = may_be_kept(protocol, record.epoch, record.objective, state.history[:-1], stops)
            if leader:
                if kept:
                    keep(folder, _describe(config, inputs, state.run.model.arguments, record.epoch), state.network.network_state())
                if record.epoch == protocol.max_epochs or time.monotonic() - saved_at >= CHECKPOINT_SECONDS or leaving():
                    checkpoint.save_newest(folder, record.epoch, state.as_dict(), facts)
                    saved_at = time.monotonic()
            try:
                stop = report(record)
            except InterruptedError:  # a signal: whoever goes on starts from this epoch
                if leader:
                    checkpoint.save_newest(folder, record.epoch, state.as_dict(), facts)
                raise
            if stop:
                if leader and protocol.keep == "last" and not kept:  # by a caller who had not said that it might
                    keep(folder, _describe(config, inputs, state.run.model.arguments, record.epoch), state.network.network_state())
                return _stopped(record)
    except DivergedError as error:
        return Ending(outcome=Outcome.DIVERGED, reason=str(error))
    return Ending(outcome=Outcome.COMPLETED)


def _stopped(record: EpochRecord) -> Ending:
    return Ending(outcome=Outcome.STOPPED, reason=f"stopped by the scheduler after epoch {record.epoch}")


def _solve(config: TrialConfig, places: Places, inputs: Inputs, report: Report) -> Ending:
    """Solve a strategy that has no epochs. It has nothing to resume from: after a kill it is solved again."""
    solved = solve(config, inputs, weights=places.weights)
    if distributed.rank() == 0:
        kept = _describe(config, inputs, solved.network.arguments, solved.record.epoch)
        keep(Folder(places.folder), kept, solved.network.network_state())
    report(solved.record)
    return Ending(outcome=Outcome.COMPLETED)


def _describe(config: TrialConfig, inputs: Inputs, arguments: dict[str, Any], epoch: int) -> Kept:
    """Return what users of the trained network need to know; `arguments` are timm's."""
    table = inputs.table
    rows, columns = table.tiles
    return Kept(
        trial=config.id,
        backbone=timm_name(config.cell.backbone),
        arguments=arguments,
        classes=list(table.classes),
        image_size=config.protocol.image_size,
        channels=table.channels,
        precision=config.protocol.precision,
        epoch=epoch,
        side=inputs.images.whole.shape[1] // rows,
        fit=config.protocol.fit,
        tiles=[rows, columns],
        pool=table.pool,
        several=table.several,
        thresholds=[] if inputs.thresholds is None else inputs.thresholds.tolist(),
    )


def open_images(config: TrialConfig, places: Places) -> tuple[ImageTable, np.ndarray]:
    """Return the cell's whole table and its pixels, uint8 [N, S, S, C]. Only here the test split is within reach."""
    table = open_table(config, places)
    return table, _pixels(table, config, places)


def open_table(config: TrialConfig, places: Places) -> ImageTable:
    """Return the cell's whole table without decoding an image."""
    cell = config.cell
    table = _opened(cell.dataset, cell.splits, places.data_root)
    table = subsample(table, cell.train_fraction, seed=config.subset) if cell.train_fraction < 1 else table
    return table if config.train_on == "train" else with_validation(table, with_test=config.train_on == "all")


def open_inputs(config: TrialConfig, places: Places) -> Inputs:
    """Return the data for training; the test images are cut off before."""
    return Inputs(cut_off_test(*open_images(config, places)), config, places.cache_root or cache_folder())


@functools.lru_cache(maxsize=4)
def _opened(name: str, splits: str, root: Path | None) -> ImageTable:
    """Return the data set. Headers and labels are read once in a process, which trains one trial of a study after another."""
    return open_dataset(name, splits=splits, root=root)


def measure_trial(config: TrialConfig, places: Places, names: tuple[str, ...], folder: Folder) -> dict[str, str]:
    """Measure the network kept in `folder`, a trial's own, and write measured/NAME.parquet there.

    Returns, by name, the reasons of measurements that have no result. Raises ConfigError where no network is kept.
    """
    table, images = open_images(config, places)
    own = config.cell.dataset
    foreign = {name: functools.partial(_foreign, name, config, places) for name in places.foreign if DataName.parse(name).dataset != own}
    finished = Finished(
        config=config,
        network=Predictor.from_folder(folder, trial=config.id),
        start=lambda: create(
            config.cell.backbone,
            len(table.classes),
            weights=places.weights,
            seed=config.seed,
            start=config.strategy.start,
            image_size=config.protocol.image_size,
        ),
        published=functools.partial(_published, config, places),
        table=table,
        pixels=images,
        foreign=foreign,
        labelled=functools.partial(_labelled, config, places) if places.labelled else None,
        earlier=lambda name: _measured(folder, name),
    )
    reasons = {m.name: measure(finished, m, folder) for m in find_measurements(names)}
    return {name: reason for name, reason in reasons.items() if reason}


def _published(config: TrialConfig, places: Places) -> Backbone:
    """Return the network with the head it was published with. Raises NotMeasured."""
    if config.strategy.start == "random":
        raise NotMeasured(f"{config.strategy.name} starts from random weights: there is nothing it could forget")
    backbone = create(config.cell.backbone, None, weights=places.weights, image_size=config.protocol.image_size)
    head = backbone.model.get_submodule(backbone.head)
    if not any(True for _ in head.parameters()):
        raise NotMeasured(f"the weights of {config.cell.backbone} came without a classifier")
    return backbone


def _foreign(name: str, config: TrialConfig, places: Places) -> Images:
    task = DataName.parse(name)
    table = _opened(task.dataset, task.splits, places.data_root)
    return Images(table=table, pixels=_pixels(table, config, places))


def _labelled(config: TrialConfig, places: Places) -> Images:
    table = read_labelled(Path(places.labelled or ""))
    return Images(table=table, pixels=_pixels(table, config, places))


def _pixels(table: ImageTable, config: TrialConfig, places: Places) -> np.ndarray:
    """Return the images of any table as the trial's network sees them, uint8 [N, S, S, C]."""
    return pixels(table, round(config.protocol.image_size * HEADROOM), places.cache_root, config.protocol.fit)


def _measured(folder: Folder, name: str) -> pa.Table | None:
    data = folder.read(f"measured/{name}.parquet")
    return None if data is None else parquet.read(data)
