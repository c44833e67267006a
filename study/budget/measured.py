"""The facts of a user's images and of this machine that decide on a study: looked at, or measured where they are first asked for."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from study.budget.ladder import Ladder
from study.budget.machine import Speeds, usable_cores
from study.budget.price import Machine, Paces, Pictures
from study.console.progress import busy
from study.datasets import open_dataset
from study.datasets.outer_folds import worth_folding
from study.datasets.spec import SPLITS
from study.question.cell import grid
from study.question.naming import DataName
from study.question.training_settings import Protocol

LOOKED_AT = 24  # images decoded to learn their sizes, and how long one takes
STARTS = 4.0  # times a new process's start: Ray, its workers (at once), MLflow's follower, the report
STARTS_LOCAL = 2.0


@dataclass(frozen=True, kw_only=True)
class Looked:
    """The facts of one data set's images."""

    pictures: Pictures
    policy: str  # of its augmentation
    reading: float  # seconds to read all images once


def look(dataset: str, root: Path | None) -> Looked:
    """Return the facts of a data set, by a few of its images, and print its form. Raises DataError where there are none."""
    name = DataName.parse(dataset)
    table = open_dataset(name.dataset, splits=name.splits, root=root)
    print(f"{name.dataset}: {table.form}", flush=True)
    at = np.unique(np.linspace(0, len(table.ids) - 1, LOOKED_AT).round().astype(int))
    began = time.perf_counter()
    shapes = np.array([table.decode(int(k)).shape[:2] for k in at]) // np.array(table.tiles)
    seconds = (time.perf_counter() - began) / len(at)
    tiles = table.tiles[0] * table.tiles[1]
    train, val, test = (tiles * table.of(k)[0] for k in range(len(SPLITS)))
    side, longer = int(np.median(shapes.min(axis=1))), int(np.median(shapes.max(axis=1)))
    pictures = Pictures(
        dataset=dataset,
        train=train,
        val=val,
        test=test,
        classes=len(table.classes),
        side=side,
        longer=longer,
        folds=worth_folding(name, table, root),
    )
    return Looked(pictures=pictures, policy=table.policy, reading=seconds * len(table.ids))


class Bench:
    """This machine at the work of a ladder's studies. Images of one size are measured where that size is first asked for."""

    def __init__(self, speeds: Speeds, ladder: Ladder, protocol: Protocol, looked: Sequence[Looked], own: int) -> None:
        """Measure nothing yet. `protocol`: of the smallest study; `own`: pixels a side that the networks were made for."""
        self._speeds, self._backbones, self._own = speeds, ladder.backbones, own
        self._cells = grid(["any"], list(ladder.backbones), list(ladder.trained))
        self._protocol = replace(protocol, precision="bf16" if ladder.precision == "bf16" else "fp32")
        self._classes = looked[0].pictures.classes
        self._policy = "strong" if any(one.policy == "strong" for one in looked) else "mild"
        self._reading = 2 * sum(one.reading for one in looked)  # looked through by the doctor, then kept as pixels
        self._paces: dict[tuple[str, str], dict[int, Paces]] = {(c.backbone, c.strategy): {} for c in self._cells}

    @property
    def sizes(self) -> set[int]:
        """Return the sizes of images that were measured."""
        return set(next(iter(self._paces.values())))

    def machine(self, sizes: Iterable[int]) -> Machine:
        """Measure images of these sizes; return the machine with them and all that were measured before."""
        for size in sizes:
            with busy(f"measuring {', '.join(self._backbones)} at {size} px", announced=True):
                for cell in self._cells:
                    protocol = replace(self._protocol, image_size=size)
                    self._paces[cell.backbone, cell.strategy][size] = self._speeds.paces(cell, protocol, self._classes, self._policy)
                self._besides()
        where, (process, trial, solve) = self._speeds.where, self._besides()
        return Machine(
            at_once=where.at_once,
            start=(STARTS if where.ray else STARTS_LOCAL) * process + self._reading + self._speeds.spent,
            trial=trial,
            solve=solve,
            own=self._own,
            paces=self._paces,
            load=self._speeds.load,
            cores=usable_cores(),
        )

    def _besides(self) -> tuple[float, float, float]:
        """Return the seconds of a new process, of a trial besides its images, and of an image and a class of the line to beat."""
        return self._speeds.process(), max(self._speeds.trial(name) for name in self._backbones), self._speeds.solve()
