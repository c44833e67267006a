"""The choice of where a study's trials run: in this process, or on Ray.

Ids, seeds and epochs are the same either way; only the time differs. Ray runs as many trials at once as the machine holds, and takes a
while to start and to end. In this process one trial after the other has all the cores, and starts at once.
"""

import functools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch

from study.budget.machine import conditions
from study.conduct import stages
from study.conduct.after_search import controls
from study.conduct.same_images import Tables
from study.conduct.workplace import Workplace
from study.console.progress import busy
from study.console.text import shown, span
from study.datasets.spec import VAL, kept_by_class
from study.errors import ConfigError, EnvironmentProblem
from study.inference.device import Device
from study.networks.fits import phases_on
from study.networks.pretrained import Backbone, create
from study.question.cell import Cell
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.search import RayDoesNotStart, local
from study.search.resources import Nodes, Resources
from study.storage.folder import Folder
from study.storage.options import Options
from study.strategies import STRATEGIES

START_S = 20.0  # Ray, its workers' imports, and its end, on an idle machine
SCALES = 0.75  # a trial of n threads is n^0.75 times as fast as of one: measured with two, more is an extrapolation
TRIAL_S = 0.3  # of a trial besides its images: the network made and kept
LONGEST_HERE_S = 1800.0  # beyond, what Ray's workers are worth besides: one that dies takes no other trial along
PROBE = 8  # images
"""The measurements of the first three constants are described in docs/performance.md."""


def check_machine(study: Study, options: Options) -> None:
    """Check that trials can run as they are asked to, before anything is computed. A named cluster is asked when it is connected to.

    Raises ConfigError or EnvironmentProblem.
    """
    if options.local and options.ray:
        raise ConfigError("trials run in this process (local) or on Ray, not both. Keep one.")
    if options.local and (workers := study.protocol.workers) > 1:  # batch norm is per worker: one process would give other numbers
        raise ConfigError(f"--local runs 1 worker a trial, not {workers}. Leave it out, or ask for --workers 1.")
    if not options.local and not options.named_cluster:
        here = [{"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}]
        _resources(study, options, here).fit(here)


@contextmanager
def open_runner(work: Workplace, options: Options, tables: Tables) -> Iterator[stages.Runner]:
    """Yield the runner of the study's trials. Where Ray does not start on this machine, this process takes its place.

    Raises ConfigError or EnvironmentProblem where trials can run neither way.
    """
    with ExitStack() as stack:
        # Tune's own files, which the ledger does not need: also those of a run before that lost its head
        stack.enter_context(_removed_afterwards(work.ledger.folder, ".ray"))
        if in_this_process(work, options, tables):
            yield local.run
            return
        try:
            run = stack.enter_context(_on_ray(work, options))
        except RayDoesNotStart as error:
            several = work.study.protocol.workers > 1
            if options.ray or several:
                way_out = "lower --workers to 1" if several else "leave --ray out: trials then run in this process"
                raise RayDoesNotStart(f"{error} Mend what it names, or {way_out}.") from None
            print(f"{shown(str(error))} Running in this process instead, one trial at a time.", file=sys.stderr, flush=True)
            run = local.run
        yield run


def in_this_process(work: Workplace, options: Options, tables: Tables) -> bool:
    """Return the user's choice, else True where this process is expected to end first, and print that decision."""
    study = work.study
    if options.local or options.ray or _asks_for_ray(study, options):
        return options.local
    trials = sum(stages.remaining(study, work.ledger).todo.values())
    if not trials:
        return True
    where = conditions(False, options.cpus_per_worker, study.protocol.workers, options.concurrent)
    if torch.cuda.device_count() > 1 or not _is_short(trials * TRIAL_S, where.at_once):
        return False
    with busy("estimating the trials' seconds"):
        seconds = expected_seconds(work, tables)
    if not _is_short(seconds, where.at_once):
        return False
    said = f"{trials} trials of about {span(seconds)} in all" if trials > 1 else f"1 trial of about {span(seconds)}"
    print(f"Running in this process: {said}. Starting Ray would take longer than it saves; --ray starts it.", flush=True)
    return True


def _asks_for_ray(study: Study, options: Options) -> bool:
    """Return True for an option that only Ray takes, or for more than one process a trial."""
    named = options.named_cluster
    placed = options.concurrent is not None or options.gpus_per_trial is not None or options.cpus_per_worker != Options.cpus_per_worker
    return bool(named) or placed or study.protocol.workers > 1


def _is_short(seconds: float, at_once: int) -> bool:
    return here_first(seconds, at_once, torch.get_num_threads(), max(os.getloadavg()[0] / (os.cpu_count() or 1), 1.0))


def here_first(seconds: float, at_once: int, threads: int, load: float) -> bool:
    """Return True where trials that take `seconds` in this process, with `threads`, end before Ray has run them, `at_once` together.

    `load`: processes a core, 1 or more; they slow down Ray's start as they slow down trials.
    """
    saved = seconds * (1 - min(threads**SCALES / at_once, 1.0))
    return saved <= START_S * load and seconds <= LONGEST_HERE_S


# ---- what is left, in seconds -------------------------------------------------------------------------------


def expected_seconds(work: Workplace, tables: Tables) -> float:
    """Return the seconds of all trials left, one after the other.

    They are estimated from those that ended, else from a forward pass of each network. It is an upper limit: trials that are stopped
    early or found stored are not foreseen.
    """
    study, left = work.study, stages.remaining(work.study, work.ledger)
    known = left.left({})
    if known is not None:
        return known
    beside = (replace(c, strategy=name) for c in study.cells for name in controls())
    cells = {c.id: c for c in (*study.cells, *beside)}
    networks: dict[str, tuple[Backbone, float]] = {}
    total = 0.0
    for (name, whole), runs in left.todo.items():
        cell = cells[name]
        if cell.backbone not in networks:
            networks[cell.backbone] = forward(cell.backbone, study.protocol, work.places.weights)
        total += runs * (TRIAL_S + left.size(name, whole) * _seconds(cell, study.protocol, tables, *networks[cell.backbone]))
    return total


def _seconds(cell: Cell, protocol: Protocol, tables: Tables, backbone: Backbone, forward: float) -> float:
    """Return the seconds of a run. An image passes the network once, and twice more through the trained part; the frozen part once a
    view."""
    table = tables[cell.dataset, cell.split_protocol]
    train = sum(kept_by_class(table, cell.train_fraction))
    looked = int((table.split == VAL).sum()) + min(train, protocol.train_eval_images)
    passes = protocol.max_epochs * protocol.passes(train)
    deepest = max(p.cut for p in phases_on(STRATEGIES[cell.strategy](), backbone, max(protocol.max_epochs, 2), cell.id))
    trained = deepest / max(backbone.num_stages, 1)
    frozen = (1 - trained) * (train * (min(protocol.views, passes) or passes) + looked)
    return forward * (frozen + trained * (3 * train * passes + protocol.max_epochs * looked))


@torch.no_grad()
def forward(name: str, protocol: Protocol, weights: str | None) -> tuple[Backbone, float]:
    """Return the network, and the seconds of its forward pass for one image."""
    where = Device.best("bf16" if protocol.precision == "bf16" else "fp32")
    backbone = create(name, 2, weights=weights, image_size=protocol.image_size)
    model = where.place(backbone.model).eval()
    images = torch.zeros(PROBE, 3, protocol.image_size, protocol.image_size, device=where.device).contiguous(
        memory_format=torch.channels_last
    )
    took = []
    for _ in range(2):  # the first one warms up
        began = time.perf_counter()
        with where.autocast():
            model(images)
        where.wait()
        took.append(time.perf_counter() - began)
    return backbone, took[-1] / PROBE


# ---- on Ray -------------------------------------------------------------------------------------------------


@contextmanager
def _on_ray(work: Workplace, options: Options) -> Iterator[stages.Runner]:
    study, ledger = work.study, work.ledger
    with ExitStack() as stack:
        address = options.address or os.environ.get("RAY_ADDRESS")
        with busy(f"connecting to Ray at {address}" if address else f"starting Ray on {os.cpu_count()} cores", announced=True):
            try:
                from study.search.on_ray.cluster import cluster  # chosen at run time: Ray takes seconds to load
                from study.search.on_ray.nodes import wanted
                from study.search.on_ray.tuner import run
            except ImportError as error:
                if address:
                    raise EnvironmentProblem(f"Ray cannot be loaded ({error}). Install it, or use --local.") from None
                raise RayDoesNotStart(f"Ray cannot be loaded ({error}).") from None

            try:
                connected = stack.enter_context(cluster(options.address))
            except RayDoesNotStart:
                raise
            except EnvironmentProblem as error:
                raise EnvironmentProblem(f"{error} Or use --local.") from None
        nodes = connected.nodes
        resources = _resources(study, options, nodes)
        resources.fit(nodes)
        if not connected.started:
            connected.check(wanted(ledger.folder, work.places, [c.data for c in study.cells], study.protocol.workers))
        yield functools.partial(run, resources=resources, cluster=connected, storage=f"{ledger.folder.location}/.ray")


def _resources(study: Study, options: Options, nodes: Nodes) -> Resources:
    """Return what a trial takes: where it is not said and a node has GPUs, one a worker."""
    gpus, share = options.gpus_per_trial, options.gpus_per_trial == "auto"
    if gpus is None or gpus == "auto":
        gpus = float(study.protocol.workers) if any(node.get("GPU", 0) for node in nodes) else 0.0
    return Resources(
        workers=study.protocol.workers,
        cpus_per_worker=options.cpus_per_worker,
        gpus_per_trial=gpus,
        share_gpus=share and gpus == 1,  # without GPUs there is nothing to share, and workers of one trial share none
        concurrent=options.concurrent,
    )


@contextmanager
def _removed_afterwards(folder: Folder, name: str) -> Iterator[None]:
    """Remove a file when all who write it have ended."""
    try:
        yield
    finally:
        folder.remove(name)
