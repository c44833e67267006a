"""How fast this machine is at a study's work, measured in its own conditions: as many at once as trials will run, each with its threads.

Kept for a day in the cache's speeds.json, so that the same command chooses the same study.
"""

import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from study.config import Cell, Protocol
from study.cost import BATCH, fastest_precision, measure
from study.datasets.cache import cache_folder
from study.errors import ConfigError
from study.files import Folder
from study.inference.classifier import HEADROOM
from study.inference.device import Device
from study.mine import Pace
from study.networks.pretrained import Backbone, create
from study.networks.sizes import check_forward
from study.networks.weights import timm_name
from study.places import Places
from study.records import dumps
from study.space import Integer, domains
from study.strategies import STRATEGIES, Strategy
from study.training.augment import POLICIES, augment

log = logging.getLogger(__name__)
T = TypeVar("T")
FRESH_S = 24 * 3600.0
MOST_COPIES = 8  # measured at once: more tell nothing new, and each holds a network


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How trials will run."""

    at_once: int
    threads: int  # of each
    ray: bool


def conditions(local: bool, cpus_per_worker: float, workers: int, concurrent: int | None) -> Conditions:
    """On this machine, as study.search.on_ray places trials: one a GPU where there are any, else as the processors hold them."""
    if local:
        return Conditions(at_once=1, threads=torch.get_num_threads(), ray=False)
    room = torch.cuda.device_count() or int((os.cpu_count() or 1) / max(cpus_per_worker, 1e-9))
    at_once = max(min(room // workers, concurrent or room), 1)
    return Conditions(at_once=at_once, threads=max(int(cpus_per_worker), 1), ray=True)


class Speeds:
    """Measurements, by what they are of."""

    def __init__(self, places: Places, where: Conditions) -> None:
        self.weights, self.where = places.weights, where
        self._took: dict[str, float] = {}
        self._folder = Folder(str(places.cache_root or cache_folder()))
        self._networks: dict[str, Backbone] = {}
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
        self._machine = {"host": platform.node(), "device": device, "torch": torch.__version__, **asdict(where)}

    @property
    def spent(self) -> float:
        """Seconds that went into what was asked for, now or earlier: counted alike, so that the same command chooses the same."""
        return sum(self._took.values())

    def network(self, name: str) -> Backbone:
        """As its weights come; raises ConfigError where there are none."""
        if name not in self._networks:
            self._networks[name] = create(name, 2, weights=self.weights)
        return self._networks[name]

    def takes(self, name: str, size: int) -> bool:
        """Whether the network takes images of so many pixels a side."""
        try:
            made = create(name, 2, weights=self.weights, image_size=size)
            check_forward(made.model, timm_name(name), made.input_size)
        except ConfigError:
            return False
        return True

    def pace(self, cell: Cell, protocol: Protocol, classes: int, policy: str) -> Pace:
        """Of the dearest settings that a search may draw: its deepest cut. Strategies with the same cut are measured once."""
        stages = self.network(cell.backbone).num_stages
        strategy = dearest(STRATEGIES[cell.strategy], stages, protocol.max_epochs)
        cut = strategy.phases(stages, max(protocol.max_epochs, 2))[-1].cut
        what = {"backbone": cell.backbone, "cut": cut, "size": protocol.image_size, "batch": min(protocol.batch_size, BATCH)}
        what |= {"precision": protocol.precision, "optimizer": protocol.optimizer, "policy": policy}
        copies = 1 if torch.cuda.is_available() else min(self.where.at_once, MOST_COPIES)
        found = self._known(
            {"pace": what}, lambda: _mean(self._copies(copies, lambda: _pace(cell, protocol, classes, self.weights, strategy, policy)))
        )
        return Pace(train=found["train"], evaluate=found["evaluate"])

    def precision(self, backbones: tuple[str, ...], size: int) -> str:
        found = self._known(
            {"precision": backbones, "size": size},
            lambda: {"precision": fastest_precision(backbones, size, self.weights, self.where.threads)[0]},
        )
        return str(found["precision"])

    def process(self) -> float:
        """Seconds until a new process has loaded what a worker needs."""
        return float(self._known({"process": "worker"}, lambda: {"seconds": _process(self.where.ray)})["seconds"])

    def trial(self, backbone: str) -> float:
        """Seconds to make the network and to keep it."""
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
        if key not in kept:
            began = time.perf_counter()
            found = work()
            kept = self._read() | {key: {**found, "at": time.time(), "took": time.perf_counter() - began}}
            self._folder.write("speeds.json", dumps(kept, indent=1).encode())
        self._took[key] = kept[key]["took"]
        return dict(kept[key])

    def _read(self) -> dict[str, dict[str, Any]]:
        """What is younger than a day; of a damaged file, nothing: it only saves time."""
        try:
            found = json.loads(self._folder.read("speeds.json") or b"{}")
            return {k: v for k, v in found.items() if 0 <= time.time() - v["at"] < FRESH_S}
        except (ValueError, TypeError, KeyError, AttributeError):
            log.warning("speeds.json cannot be read; speeds are measured anew")
            return {}


def dearest(cls: type[Strategy], stages: int, epochs: int) -> Strategy:
    """The strategy with every whole-number setting at the upper end of its range, as far as the network holds it."""
    tops = {name: domain for name, domain in domains(cls).items() if isinstance(domain, Integer)}
    for less in range(max((d.high - d.low for d in tops.values()), default=0) + 1):
        strategy = cls(**{name: max(d.high - less, d.low) for name, d in tops.items()})
        try:
            strategy.phases(stages, max(epochs, 2))
        except ValueError:
            continue
        return strategy
    return cls()


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
    return Pace(train=price.train + (time.perf_counter() - began) / 2 / count, evaluate=price.evaluate)


def _mean(paces: list[Pace]) -> dict[str, float]:
    return {"train": float(np.mean([p.train for p in paces])), "evaluate": float(np.mean([p.evaluate for p in paces]))}


def _process(ray: bool) -> float:
    loads = "import study.pipeline" + (", study.search.on_ray.workers" if ray else "")
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", loads], env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False, timeout=600)
    return time.perf_counter() - began


def _made(backbone: str, weights: str | None) -> float:
    from safetensors.torch import save

    create(backbone, 2, weights=weights)  # a worker reads the weights once for all its trials
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        made = create(backbone, 2, weights=weights)
        Folder(folder).write("weights", save(dict(made.model.state_dict())))
        return time.perf_counter() - began
