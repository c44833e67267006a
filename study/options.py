"""Operations of a study: where it lies, what it runs on, who is told. Never science: nothing here changes a number."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Options:
    results: str = "results"  # folder or URL for everything a study leaves
    data: str | None = None  # folder that holds fer2013/, deepweeds/
    weights: str | None = None  # folder of pretrained weights
    local: bool = False  # in this process, without Ray
    ray: bool = False  # on Ray; with neither, whatever is expected to end first (study/runners.py)
    address: str | None = None  # a Ray cluster; else RAY_ADDRESS, else one started on this machine
    cpus_per_worker: float = 1.0
    gpus_per_trial: float | Literal["auto"] | None = None  # None: 1 where there are GPUs; "auto": as the trials' measured memory allows
    concurrent: int | None = None  # most trials at once; None: as many as fit
    mlflow: str | None = None  # server's URI; None: SQLite under the results folder; "off": none
    images: bool = True  # small copies of images on the report; False for private ones
    delivery_hours: float = math.inf  # most that the delivery may take of a study that delivers by itself (Study.deliver)
    command: str = ""  # how it was asked for: a fact that stands on the report
