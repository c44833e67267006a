"""The targets of kills: the share of each, the study that it is killed in, and how to find it among that study's processes."""

from collections.abc import Callable
from dataclasses import dataclass

import psutil

from benchmarks.starts import MOMENTS


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of study that has one twin."""

    arguments: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ("linear_probe", "partial")
    seeds: int = 2


LOCAL, RAY = Kind(arguments=("--local",)), Kind(arguments=("--ray",))
DDP = Kind(arguments=("--workers", "2"), strategies=("linear_probe",), seeds=1)


@dataclass(frozen=True, kw_only=True)
class Target:
    name: str
    kind: Kind
    share: int  # of a hundred kills
    a_study: int  # kills
    is_it: Callable[[psutil.Process], bool] | None = None  # None: the driver
    moments: tuple[str, ...] = MOMENTS
    ends: bool = False  # the sweep cannot go on without it


TRAINING = ("search", "confirm")
_ALL = (
    Target(name="driver, --local", kind=LOCAL, share=60, a_study=6, ends=True),
    Target(name="driver, Ray", kind=RAY, share=12, a_study=4, ends=True),
    Target(name="actor", kind=RAY, share=8, a_study=4, is_it=lambda p: "ImplicitFunc.train" in _line(p), moments=TRAINING),
    Target(name="raylet", kind=RAY, share=6, a_study=3, is_it=lambda p: p.name() == "raylet", ends=True),
    Target(name="GCS", kind=RAY, share=6, a_study=3, is_it=lambda p: p.name() == "gcs_server", ends=True),
    Target(name="DDP worker", kind=DDP, share=4, a_study=2, is_it=lambda p: "RayTrainWorker" in _line(p), moments=TRAINING),
    Target(name="follower", kind=LOCAL, share=6, a_study=3, is_it=lambda p: "study.tracking follow" in _line(p)),
)
TARGETS = {t.name: t for t in _ALL}


def _line(process: psutil.Process) -> str:
    return " ".join(process.cmdline())
