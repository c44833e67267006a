"""Bounds of every number that can be set: fields of a study, its protocol, recipe and trials, and options of commands.

They are checked where the value is made, so a dry run refuses the same values as a run, before anything starts. Standard library only.
"""

import dataclasses
import functools
import math
import typing
from dataclasses import dataclass
from typing import Any

from study.console.text import brief
from study.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A bound: low <= value <= high; `open_low`, `open_high` exclude the ends themselves."""

    low: float = 0
    high: float = math.inf
    whole: bool = False
    open_low: bool = False
    open_high: bool = False
    infinite: bool = False  # infinity is a value: off, or no limit
    unit: str = ""  # of what
    note: str = ""  # what an end means

    def refusal(self, name: str, value: object) -> str:
        """Return one line that names the value and the rule; an empty text where the value is within bounds."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            kind = "int" if self.whole else "float"
            plain = f". Write {kind}(...), a number of Python's" if type(value).__module__ == "numpy" else ""
            return f"{name} must be {self.rule}, not {brief(value)}{plain}."
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        if above and below and (self.infinite or value < math.inf):
            return ""
        if above and not below and value < math.inf and self.high > 100:
            return f"{name} must be at most {self.high:,.10g}{self.unit}, not {brief(value)}."
        return f"{name} must be {self.rule}, not {brief(value)}."

    @property
    def rule(self) -> str:
        """Return the rule in words."""
        note = f" ({self.note})" if self.note else ""
        if self.high <= 100 and not self.whole:
            return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}{self.unit}{note}"
        if self.whole:
            return f"a whole number {f'from {self.low} to {self.high}' if self.high <= 100 else f'>= {self.low}'}{self.unit}{note}"
        return f"{'' if self.infinite else 'finite and '}{'>' if self.open_low else '>='} {self.low:g}{self.unit}{note}"


def whole(low: int, high: int, unit: str = "", note: str = "") -> Bound:
    return Bound(low=low, high=high, whole=True, unit=unit, note=note)


MANY = 100_000
SIDE = 8_192  # pixels a side: more than any network of timm's was made for, and 400 MB an image of plain numbers

BOUNDS: dict[str, Bound] = {
    # ---- protocol
    "max_epochs": whole(1, MANY),
    "warmup_epochs": Bound(high=MANY),
    "batch_size": whole(1, MANY),
    "image_size": whole(1, SIDE),
    "workers": whole(1, 4_096),
    "train_eval_images": whole(1, 10_000_000),
    "grad_clip": Bound(open_low=True, infinite=True, note="inf = off"),
    "views": whole(0, MANY),
    "wrong_labels": Bound(high=1, open_high=True),
    "min_steps": whole(0, 10_000_000, note="0 = off"),
    # ---- recipe
    "augmentation": Bound(high=1),
    "weight_decay": Bound(high=1e6),
    "label_smoothing": Bound(high=1, open_high=True),
    "class_weighting": Bound(high=1, note="0 = none, 1 = inverse frequency"),
    "balanced_sampling": Bound(high=1, note="0 = as they are, 1 = all classes equally often"),
    "mixup": Bound(high=1e6, note="0 = off"),
    "cutmix": Bound(high=1e6, note="0 = off"),
    "drop_path": Bound(high=1, open_high=True),
    "ema": Bound(high=1, open_high=True, note="0 = off"),
    # ---- strategies
    **dict.fromkeys(("lr", "probe_lr", "head_lr", "pull", "head_factor"), Bound(high=1e6)),
    "decay": Bound(high=1, open_low=True),
    "reach": Bound(high=1, open_low=True),
    "probe_share": Bound(high=1, open_low=True, open_high=True),
    "head_share": Bound(high=1, open_low=True, open_high=True),
    "strength": Bound(high=1e12, note="0: validation chooses"),
    "unfreeze_depth": whole(1, 10_000),
    "depth_steps": whole(0, 10_000),
    "epochs_each": whole(1, MANY),
    "rank": whole(1, 100_000),
    "block": Bound(low=1, high=4, whole=True),
    # ---- cell and trial
    "train_fraction": Bound(high=1, open_low=True),
    "Cell.image_size": whole(0, SIDE, " pixels", "0 = the protocol's"),
    "budget": whole(1, 1_000, note="of times max_epochs: budgets=(1, 3, 10)"),
    "seed": whole(0, 2**32 - 1, note="up to 2**32-1"),
    "subset": whole(0, 1_000_000),
    # ---- study
    "trials": whole(1, MANY),
    "random_trials": whole(0, MANY),
    "grace_epochs": whole(0, MANY),
    "reduction_factor": whole(2, 1_000),
    "confirm_seeds": whole(0, MANY),
    "folds": whole(1, 1_000, note="1 = the split as it is"),
    "margin": Bound(high=1e9, open_low=True, unit=", in the metric's unit"),
    "worth": Bound(high=1e9, unit=", in the metric's unit", note="0 = the margin"),
    "line_size": whole(0, SIDE, " pixels", "0 = the network's own size"),
    "confirm_size": whole(0, SIDE, " pixels", "0 = the protocol's image_size"),
    "searches": whole(1, MANY),
    "budget_check": whole(0, 1_000, note="0 = off"),
    "longest": whole(1, 1_000, note="1 = never longer"),
    # ---- options of commands
    "hours": Bound(high=MANY, open_low=True),
    "cpus_per_worker": Bound(high=4_096, open_low=True),
    "gpus_per_trial": Bound(high=1_024),
    "concurrent": whole(1, MANY),
    "max_failed": whole(0, 10_000_000),
    "price_per_hour": Bound(high=1e9),
    "port": whole(0, 65_535, note="0 = any that is free"),
    "images": whole(0, 100_000_000),
    "batch": whole(1, MANY),
    "sets": Bound(high=1, open_low=True, open_high=True, note="the share of images whose set holds the true class: 0.95"),
    "nodes": whole(1, MANY),
    "most": whole(1, 10_000, note="pictures that one person labels"),
    "among": whole(1, 1_000_000),
    "wait": Bound(high=1e7),
}


def check(name: str, value: object, called: str = "") -> None:
    """Raise ConfigError, in one line, where the field or option `name` cannot have this value. `called`: how the user wrote the name."""
    if refused := BOUNDS[name].refusal(called or name, value):
        raise ConfigError(refused)


def check_types(value: Any) -> None:
    """Check every field of a dataclass that is a text, a value of ours, or several of these. Raises ConfigError for the first wrong
    one."""
    for name, kind, several in _typed(value.__class__):
        given = getattr(value, name)
        if several and not isinstance(given, tuple | list):
            raise ConfigError(f"{name} must be a tuple, not {brief(given)}.")
        for one in given if several else (given,):
            if not isinstance(one, kind):
                raise ConfigError(
                    f"{name} must be {f'of {kind.__name__}s' if several else KINDS.get(kind, f'a {kind.__name__}')}, not {brief(one)}."
                )


KINDS: dict[type, str] = {str: "a text"}


@functools.cache
def _typed(cls: type) -> tuple[tuple[str, type, bool], ...]:
    """Return (field, its type, True for a tuple of these) of the fields that `check_types` looks at."""
    hints = typing.get_type_hints(cls)
    out = []
    for field in dataclasses.fields(cls):
        several = typing.get_origin(hints[field.name]) is tuple
        kind = (typing.get_args(hints[field.name]) or (None,))[0] if several else hints[field.name]
        if isinstance(kind, type) and (kind is str or dataclasses.is_dataclass(kind)):
            out.append((field.name, kind, several))
    return tuple(out)


def check_fields(value: Any) -> None:
    """Check every field of a dataclass that has a bound. Raises ConfigError for the first out of bounds."""
    for field in dataclasses.fields(value):
        if (name := bound_of(type(value).__name__, field.name)) in BOUNDS:
            check(name, getattr(value, field.name), field.name)


def bound_of(owner: str, field: str) -> str:
    """Return the name under which BOUNDS has a field: its own, or with its class where that class has other bounds."""
    return f"{owner}.{field}" if f"{owner}.{field}" in BOUNDS else field


def check_options(**values: object) -> None:
    """Check a command's options, given by name with underscores; None marks an option that was not given. Raises ConfigError."""
    for name, value in values.items():
        if value is not None:
            check(name, value, "--" + name.replace("_", "-"))
