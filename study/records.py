"""The records of a study: plain frozen dataclasses, made with the standard library only.

A reader of results needs this file and nothing else of the project: no torch, no Ray.
"""

import dataclasses
import functools
import json
import math
import re
import typing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Self

SCHEMA = 1
"""Version of everything the ledger writes; a reader refuses others."""

TRIAL_ID = re.compile(r"[0-9a-f]{16}")
"""The id of a trial, and the name of its folder."""

OBJECTIVE = "val/macro_f1"
"""The metric that the search maximises by default, taken from the epoch that represents a trial (`study.question.which_epoch`)."""

SCORED_BY = "scored_by"
"""Among the facts of an epoch and of a result: the name of the figure that the search maximises, where it is another than `OBJECTIVE`."""

SUMMARY, LEFT_OUT = "summary", "left_out"
"""Keys in the schema's metadata of measured/NAME.parquet: a few numbers as JSON, and, where there are no rows, the reason why."""

HELD = "splits"
"""Key, in the same metadata, of the one split that predictions are about where they are not about validation and test images both."""


class Outcome(StrEnum):
    """The ways in which a trial ends. Each of them is a result, and its budget counts as spent."""

    COMPLETED = "completed"
    STOPPED = "stopped"  # early, by the scheduler
    DIVERGED = "diverged"  # first non-finite loss
    FAILED = "failed"  # an error; `reason` has it


class Stage(StrEnum):
    """A study's stages that run trials."""

    SEARCH = "search"
    CONFIRM = "confirm"
    BUDGET = "budget"  # a winner once with more epochs, on validation; one that equals a confirm run of the longer budget is that run
    EXPLAIN = "explain"  # trained to explain, never a candidate for a verdict
    DELIVER = "deliver"  # trained for the network that is handed over, after the verdict and no part of it


class Origin(StrEnum):
    """The origins of a trial's hyperparameters."""

    DEFAULT = "default"  # trial 0 of a cell: the published default
    RANDOM = "random"  # i.i.d. draws, never stopped early: only these may feed tuning curves
    TPE = "tpe"  # proposed by the study's sampler from earlier trials, and stopped early where others were better; so is the next
    GP = "gp"
    CONFIRM = "confirm"  # the selected configuration again, with a fresh seed
    MEMORISATION = "memorisation"  # a confirm run with a share of wrong labels
    CONTROL = "control"  # from random weights
    LINE = "line"  # solved, not trained: the line to beat, a confirm run that needs no search
    LENGTH = "length"  # the configuration that is delivered, for some number of epochs, with a fresh seed
    REFIT = "refit"  # the network that is handed over: trained on training and validation images

    @property
    def guided(self) -> bool:
        """Return True where a sampler proposed the trial from the earlier ones: only such a trial may be stopped early."""
        return self in (Origin.TPE, Origin.GP)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Base of all records, which adds only the JSON round trip."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True, "allow_inf_nan": False}

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values of every field."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Unknown fields are left out: a later version may write more. Raises ValueError for one that is missing or of a wrong type."""
        return typing.cast(Self, _validator(cls).validate_json(data))  # type: ignore[arg-type]  # mypy takes a class for unhashable

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The same from plain JSON values."""
        return cls.from_json(dumps(values))


@functools.cache
def _validator(cls: type) -> Any:
    """Return the validator of a record from its types.

    It is made when it is first needed, for pydantic takes a tenth of a second to load.
    """
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


@dataclass(frozen=True, kw_only=True)
class Ask(Record):
    """One planned trial: what to run, and why it was asked for."""

    trial_id: str
    cell: str  # id of the cell whose budget it spends, e.g. "fer2013/official/resnet50/partial/1.0"
    number: int  # within its cell and stage, from 0
    stage: Stage
    origin: Origin
    config: dict[str, Any]  # TrialConfig.as_dict()
    sequence: int = 0  # order of asking within the study: ids are hashes, folder order is not time order

    def __post_init__(self) -> None:
        object.__setattr__(self, "stage", Stage(self.stage))
        object.__setattr__(self, "origin", Origin(self.origin))


@dataclass(frozen=True, kw_only=True)
class EpochRecord(Record):
    """One completed epoch, counted from 1; metrics are reduced over workers already.

    Metric paths, each measured in eval mode without augmentation except train/loss (training mode, augmented):

    - train/loss.
    - {train,val}/{accuracy,macro_precision,macro_recall,macro_f1,balanced_accuracy,nll,ece}. `train/*` uses a fixed subset. In a search it
      is there only in epochs that may be kept: the last one and the rungs, or, where the best epoch is kept, the best ones so far.
    - val/{mean_step,quadratic_kappa}, where the classes stand in an order.
    - {wrong,disputed}/{memorised,resisted}: shares of the images whose labels were made wrong, or whose later annotators dispute them.
    - lr: the learning rate of the head.
    - distance/{head,stage_1,...}: the distance of each trained stage from the start of training, as a share of its norm.

    An undefined figure (a class without images) is absent, never 0 and never NaN.
    """

    epoch: int
    metrics: dict[str, float]
    train_seconds: float  # optimisation alone
    eval_seconds: float
    images: int  # image passes through the optimiser in this epoch
    ended_at: float  # unix time
    facts: dict[str, Any] = field(default_factory=dict)  # where it ran: device, precision, parameter counts, versions
    confusion: list[list[int]] | None = None  # of val, rows = truth; only where this epoch may be the kept one
    said: list[int] | None = None  # the class named for each image of val, in the table's order; of confirm runs' last epoch alone

    @property
    def seconds(self) -> float:
        """Return the seconds of training and evaluation together."""
        return self.train_seconds + self.eval_seconds

    @property
    def objective(self) -> float:
        """The epoch's score on validation, which the search maximises; minus infinity where it is undefined."""
        return self.metrics.get(self.facts.get(SCORED_BY, OBJECTIVE), -math.inf)


@dataclass(frozen=True, kw_only=True)
class ClassScores(Record):
    """Scores by class of one split at the kept checkpoint. Lists are indexed by class."""

    precision: list[float | None]  # None: no such prediction or no such image ("n/a")
    recall: list[float | None]
    f1: list[float | None]
    support: list[int]
    confusion: list[list[int]]  # rows: truth, columns: prediction


@dataclass(frozen=True, kw_only=True)
class TrialResult(Record):
    """The ending of a trial. It is written last, atomically: its existence means that the trial is done."""

    trial_id: str
    outcome: Outcome
    reason: str = ""  # one line; empty when completed
    epochs: int  # completed epochs
    best_epoch: int | None  # epoch of the kept checkpoint: the last one, or the best on validation, as the protocol keeps
    metrics: dict[str, float]  # at the kept checkpoint
    classes: list[str]
    val: ClassScores | None
    seconds: float  # summed over epochs and attempts: what it cost
    images: int  # image passes spent
    workers: int = 1
    device: str = ""
    attempts: int = 1
    started_at: float = 0.0
    ended_at: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)  # versions, precision, parameter counts, peak memory, ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcome", Outcome(self.outcome))

    @property
    def objective(self) -> float | None:
        """Its score on validation, which the search maximises; None where there is none."""
        return self.metrics.get(self.facts.get(SCORED_BY, OBJECTIVE))


def on_gpu(device: str) -> bool:
    """Return True where the `device` of a record is a GPU.

    A GPU has its maker's name, "NVIDIA H200"; processors are "cpu x4", and an unknown device is "".
    """
    return bool(device) and not device.startswith("cpu")


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Return strict JSON. NaN and infinity are refused and keys are sorted, so equal values give equal text."""
    return json.dumps(value, allow_nan=False, sort_keys=True, ensure_ascii=False, indent=indent)
