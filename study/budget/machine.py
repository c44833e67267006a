"""The speed of this machine at a study's work, measured in its own conditions: as many at once as trials will run, each with its threads.

It is kept for a day in the cache's speeds.json with the machine's load, so that the same command chooses the same study, and measured
again where the machine is much busier or quieter now.
"""

import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from study import early
from study.budget.cost import BATCH, fastest_precision, measure
from study.budget.price import Pace
from study.datasets.cache import cache_folder
from study.datasets.cache import cores as usable_cores
from study.errors import ConfigError
from study.inference.device import Device
from study.networks.image_sizes import check_forward
from study.networks.pretrained import Backbone, create
from study.networks.weights import timm_name
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.records import dumps
from study.space import Integer, domains
from study.storage.folder import Folder
from study.storage.places import Places
from study.strategies import STRATEGIES, Strategy
from study.training.augment import HEADROOM, POLICIES, augment

log = logging.getLogger(__name__)
T = TypeVar("T")
FRESH_S = 24 * 3600.0
OTHERWISE = 1.5  # times as slow, or as fast, by its load: what was measured then says little of now
SOLVING = 1500  # passes over the features, of all strengths together, until the line to beat is solved
SOLVED_ROWS, SOLVED_CLASSES, WIDTH = 512, 8, 1280
MOST_COPIES = 8  # measured at once: more tell nothing new, and each holds a network


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The conditions in which trials will run."""

    at_once: int
    threads: int  # of each
    ray: bool


def conditions(local: bool, cpus_per_worker: float, workers: int, concurrent: int | None) -> Conditions:
    """Return the conditions on this machine, as study.search.on_ray places trials: one a GPU where there are any, else by processors."""
    if local:
        return Conditions(at_once=1, threads=torch.get_num_threads(), ray=False)
    room = torch.cuda.device_count() or int((os.cpu_count() or 1) / max(cpus_per_worker, 1e-9))
    at_once = max(min(room // workers, concurrent or room), 1)
    return Conditions(at_once=at_once, threads=max(int(cpus_per_worker), 1), ray=True)


class Speeds:
    """Measurements, by their subject."""

    def __init__(self, places: Places, where: Conditions) -> None:
        self.weights, self.where = places.weights, where
        self._took: dict[str, float] = {}
        self._loads: dict[str, float] = {}
        self.now = load()  # before anything is measured: what is measured is load too
        self._folder = Folder(str(places.cache_root or cache_folder()))
        self._networks: dict[str, Backbone] = {}
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
        self._machine = {"host": platform.node(), "device": device, "torch": torch.__version__, **asdict(where)}

    @property
    def spent(self) -> float:
        """Return the seconds spent on the measurements, now or earlier: both count, so that the same command chooses the same."""
        return sum(self._took.values())

    @property
    def quiet(self) -> bool:
        """Return True where no program waits for a processor now."""
        return alike(self.now, 0.0)

    @property
    def load(self) -> float:
        """Return the largest number of programs that wanted a processor during the measurements."""
        return max(self._loads.values(), default=self.now)

    def network(self, name: str) -> Backbone:
        """Return the network with its weights. Raises ConfigError where there are none."""
        if name not in self._networks:
            self._networks[name] = create(name, 2, weights=self.weights)
        return self._networks[name]

    def takes(self, name: str, size: int) -> bool:
        """Return True where the network takes images of so many pixels a side."""
        try:
            made = create(name, 2, weights=self.weights, image_size=size)
            check_forward(made.model, timm_name(name), made.input_size)
        except ConfigError:
            return False
        return True

    def paces(self, cell: Cell, protocol: Protocol, classes: int, policy: str) -> tuple[Pace, ...]:
        """Return the pace of the settings that a search begins with and, where others cut the network deeper, of the deepest.

        Strategies with the same cut are measured once.
        """
        stages = self.network(cell.backbone).num_stages
        cls, epochs = STRATEGIES[cell.strategy], max(protocol.max_epochs, 2)
        ends = {s.phases(stages, epochs)[-1].cut: s for s in (cls(), dearest(cls, stages, protocol.max_epochs))}
        return tuple(self._pace(cell, protocol, classes, policy, cut, strategy) for cut, strategy in ends.items())

    def _pace(self, cell: Cell, protocol: Protocol, classes: int, policy: str, cut: int, strategy: Strategy) -> Pace:
        what = {"backbone": cell.backbone, "cut": cut, "size": protocol.image_size, "batch": min(protocol.batch_size, BATCH)}
        what |= {"precision": protocol.precision, "optimizer": protocol.optimizer, "policy": policy}
        copies = 1 if torch.cuda.is_available() else min(self.where.at_once, MOST_COPIES)
        found = self._known(
            {"halves": what}, lambda: _mean(self._copies(copies, lambda: _pace(cell, protocol, classes, self.weights, strategy, policy)))
        )
        return Pace(frozen=found["frozen"], train=found["train"], evaluate=found["evaluate"])

    def solve(self) -> float:
        """Return the seconds for one image and one class until the line to beat is solved."""
        return float(self._known({"solve": WIDTH}, lambda: {"seconds": _solving()})["seconds"])

    def precision(self, backbones: tuple[str, ...], size: int) -> str:
        found = self._known(
            {"precision": backbones, "size": size},
            lambda: {"precision": fastest_precision(backbones, size, self.weights, self.where.threads)[0]},
        )
        return str(found["precision"])

    def process(self) -> float:
        """Return the seconds until a new process has loaded what a worker needs."""
        return float(self._known({"process": "worker"}, lambda: {"seconds": _process(self.where.ray)})["seconds"])

    def trial(self, backbone: str) -> float:
        """Return the seconds to make the network and to keep it."""
        return float(self._known({"trial": backbone}, lambda: {"seconds": _made(backbone, self.weights)})["seconds"])

    def _copies(self, copies: int, work: Callable[[], T]) -> list[T]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.where.threads)
        try:
            with ThreadPoolExecutor(copies) as pool:
                return [f.result() for f in [pool.submit(work) for _ in range(copies)]]
        finally:
            torch.set_num_threads(before)

    def _known(self, what: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        key = dumps({**what, **self._machine})
        kept = self._read()
        if key not in kept or not alike(kept[key]["load"], self.now):
            began = time.perf_counter()
            found = work()
            took = time.perf_counter() - began
            kept = self._read() | {key: {**found, "at": time.time(), "took": took, "load": self.now}}
            self._folder.write("speeds.json", dumps(kept, indent=1).encode())
        self._took[key], self._loads[key] = kept[key]["took"], kept[key]["load"]
        return dict(kept[key])

    def _read(self) -> dict[str, dict[str, Any]]:
        """Return measurements that are younger than a day and have their load; none from a damaged file, which only saved time."""
        try:
            found = json.loads(self._folder.read("speeds.json") or b"{}")
            return {k: v for k, v in found.items() if 0 <= time.time() - v["at"] < FRESH_S and "load" in v}
        except (ValueError, TypeError, KeyError, AttributeError):
            log.warning("speeds.json cannot be read. Speeds are measured anew")
            return {}


def load() -> float:
    """Return the number of programs that want a processor, over the last minute; 0 where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return 0.0


def alike(then: float, now: float, cores: int | None = None) -> bool:
    """Return True where a machine is about as fast under one load as under another. Up to one program a core, none waits for another."""
    cores = cores or usable_cores()
    slow = sorted(max(one / cores, 1.0) for one in (then, now))
    return slow[1] <= OTHERWISE * slow[0]


def dearest(cls: type[Strategy], stages: int, epochs: int) -> Strategy:
    """Return the strategy with every whole-number setting at the upper end of its range, as far as the network allows."""
    tops = {name: domain for name, domain in domains(cls).items() if isinstance(domain, Integer)}
    for less in range(max((d.high - d.low for d in tops.values()), default=0) + 1):
        strategy = cls(**{name: max(d.high - less, d.low) for name, d in tops.items()})
        try:
            strategy.phases(stages, max(epochs, 2))
        except ValueError:
            continue
        return strategy
    return cls()


def cut_place(strategy: Strategy) -> float:
    """Return the place of a strategy's whole-number settings between their defaults (0) and the upper ends of their ranges (1)."""
    tops = {name: domain.high for name, domain in domains(type(strategy)).items() if isinstance(domain, Integer)}
    usual = type(strategy)()
    shares = [(getattr(strategy, n) - getattr(usual, n)) / max(top - getattr(usual, n), 1) for n, top in tops.items()]
    return min(max(sum(shares) / len(shares), 0.0), 1.0) if shares else 0.0


def _pace(cell: Cell, protocol: Protocol, classes: int, weights: str | None, strategy: Strategy, policy: str) -> Pace:
    price = measure(cell, protocol, classes, weights, strategy)
    where = Device.best(protocol.precision)
    count, side = min(protocol.batch_size, BATCH), round(protocol.image_size * HEADROOM)
    raw = torch.zeros(count, side, side, 3, dtype=torch.uint8, device=where.device)
    began = time.perf_counter()
    for epoch in (1, 2):
        augment(
            raw,
            np.arange(count),
            policy=POLICIES[policy],
            strength=0.5,
            seed=0,
            epoch=epoch,
            size=protocol.image_size,
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
        )
        where.wait()
    augmented = (time.perf_counter() - began) / 2 / count
    if price.frozen:
        return Pace(frozen=price.frozen + augmented, train=price.train, evaluate=price.evaluate)
    return Pace(frozen=0.0, train=price.train + augmented, evaluate=price.evaluate)


def _mean(paces: list[Pace]) -> dict[str, float]:
    return {f.name: float(np.mean([getattr(p, f.name) for p in paces])) for f in fields(Pace)}


def _solving() -> float:
    features, weights = np.random.default_rng(0).standard_normal((SOLVED_ROWS, WIDTH)), np.zeros((WIDTH, SOLVED_CLASSES))
    began = time.perf_counter()
    for _ in range(4):
        features.T @ (features @ weights)
    return SOLVING * (time.perf_counter() - began) / 4 / (SOLVED_ROWS * SOLVED_CLASSES)


def _process(ray: bool) -> float:
    loads = "import study.conduct.pipeline" + (", study.search.on_ray.workers" if ray else "")
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", loads], env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False, timeout=600)
    return time.perf_counter() - began


def _made(backbone: str, weights: str | None) -> float:
    from safetensors.torch import save

    create(backbone, 2, weights=weights)  # a worker reads the weights once for all its trials
    with early.temporary() as folder:
        began = time.perf_counter()
        made = create(backbone, 2, weights=weights)
        Folder(folder).write("weights", save(dict(made.model.state_dict())))
        return time.perf_counter() - began
