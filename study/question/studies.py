"""The studies, as values. Your own: a .py file that makes one (or several) the same way, and `python -m study.sweep my_study.py`."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from study.console.arguments import assigned
from study.errors import ConfigError, nearest
from study.question.cell import grid
from study.question.naming import DataName
from study.question.study_config import Study
from study.question.training_settings import Protocol, Recipe
from study.scoring import find_metric
from study.space import domains, parse
from study.strategies import STRATEGIES

QUICKSTART = Study(
    name="quickstart",
    about="Two generated miniatures, partial against full fine-tuning: a whole study in minutes on a laptop.",
    cells=grid(["mini_faces", "mini_weeds"], ["efficientnet_lite0"], ["partial", "full"]),
    protocol=Protocol(max_epochs=10, image_size=48, batch_size=32, views=10),  # one for each epoch: reuse must cost no strategy a view
    trials=3,
    random_trials=2,
    grace_epochs=3,
    reduction_factor=2,
    confirm_seeds=5,
    budget_check=0,  # it is to end in minutes
)

PILOT = Study(
    name="pilot",
    about="Real faces and real weeds at a small image size, sized for two CPU cores.",
    cells=grid(["fer2013", "deepweeds"], ["efficientnet_lite0"], ["linear_probe", "partial", "full"]),
    protocol=Protocol(max_epochs=15, image_size=64, batch_size=32, views=10, precision="auto"),
    trials=10,
    random_trials=5,
    searches=5,
    grace_epochs=5,
    reduction_factor=2,
    confirm_seeds=5,
)

SIZES = replace(
    QUICKSTART,
    name="sizes",
    about="From how many images on is it worth tuning more? Two generated miniatures at four sizes, every strategy tuned at each.",
    cells=grid(["mini_faces", "mini_weeds"], ["efficientnet_lite0"], ["linear_probe", "partial", "full"], (0.1, 0.2, 0.4, 1.0)),
)

SIZES_STEPS = replace(
    SIZES,
    name="sizes_steps",
    about="The same at equal steps: small sizes pass over their images as often as the largest one's optimiser steps.",
    protocol=replace(SIZES.protocol, min_steps=150),  # what the miniatures give in ten epochs
)

BUDGETS = replace(
    QUICKSTART,
    name="budgets",
    about="From how much training on is it worth tuning more? Two generated miniatures at 1, 3 and 10 epochs, every strategy tuned "
    "at each.",
    cells=grid(["mini_faces", "mini_weeds"], ["efficientnet_lite0"], ["linear_probe", "partial", "full"], budgets=(1, 3, 10)),
    protocol=replace(QUICKSTART.protocol, max_epochs=1, views=1, warmup_epochs=0.5),
    grace_epochs=1,
)

EVERY_MEASURE = ("predictions", "cka", "reprobe", "forgetting", "way_back", "background", "copies", "corruptions", "calibration")
"""Measurements, as study.measure names them."""

EXPLAIN = replace(
    QUICKSTART,
    name="explain",
    about="Why one wins: the quickstart with everything that is measured or trained to explain it.",
    measure=EVERY_MEASURE,
    explain=("memorisation", "controls"),
)

PAPER = Study(
    name="paper",
    about="ResNet-50 on FER2013 and EfficientNet-B0 on DeepWeeds at 224 px: the paper's pairs, tuned alike. Needs GPUs.",
    cells=(
        *grid(["fer2013"], ["resnet50"], ["linear_probe", "partial", "full", "layer_decay", "lp_ft"]),
        *grid(["deepweeds", "deepweeds@session"], ["efficientnet_b0"], ["linear_probe", "partial", "full", "layer_decay", "lp_ft"]),
    ),
    protocol=Protocol(max_epochs=30, warmup_epochs=2, batch_size=64, image_size=224, precision="bf16"),
    trials=40,
    random_trials=15,
    searches=5,
    grace_epochs=6,
    confirm_seeds=10,
    measure=EVERY_MEASURE,
    explain=("memorisation", "controls"),
)

MINE = "mine"
"""The name of the study that is no value but chosen for a user's images and hours (study/budget/choose.py)."""

AS_OPTIONS = ("name", "trials", "searches", "confirm_seeds", "budget_check", "worth", "workers", "metric")
"""Fields of a study, and of its protocol, that a sweep has an option for; all others are set by --set."""

STUDIES = {s.name: s for s in (QUICKSTART, PILOT, EXPLAIN, SIZES, SIZES_STEPS, BUDGETS, PAPER)}


def find_study(name: str) -> Study:
    """Return a study by name, or the one in a user's own .py file ("my_study.py" or "my_study.py:NAME"). Raises ConfigError."""
    if name in STUDIES:
        return STUDIES[name]
    path, _, wanted = name.partition(":")
    if name == MINE:
        raise ConfigError("mine is made for your own images: python -m study.sweep mine --datasets folder:PATH --hours 2.")
    if not path.endswith(".py"):
        raise ConfigError(f"Unknown study {name!r}. Choose from {nearest(name, [*STUDIES, MINE])}, or give your own file: my_study.py.")
    if not Path(path).is_file():
        raise ConfigError(f"Study file {path!r} does not exist (looked in {Path.cwd()}).")
    spec = importlib.util.spec_from_file_location("user_study", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # a file that exits must not look like a study that is done
        raise ConfigError(f"{path} cannot be run: {type(error).__name__}: {error}.") from error
    own = {k: v for k, v in vars(module).items() if isinstance(v, Study) and v not in STUDIES.values()}
    if wanted in own:
        return own[wanted]
    if not own:
        raise ConfigError(f"{path} holds no study: no line NAME = Study(...). Write one there, or name another file.")
    if wanted or len(own) != 1:
        raise ConfigError(f"{path} holds {', '.join(own)}{f', not {wanted}' if wanted else ''}. Name one: {path}:NAME.")
    return next(iter(own.values()))


def narrow(
    study: Study,
    *,
    datasets: list[str] | None = None,
    strategies: list[str] | None = None,
    backbones: list[str] | None = None,
    **fields: object,
) -> Study:
    """Return the study with its cells restricted or replaced by name, and plain fields set (None: unchanged)."""
    cells = study.cells
    if backbones:
        # the paper pairs each dataset with a backbone; naming backbones crosses them with every dataset
        cells = tuple(dict.fromkeys(replace(c, backbone=b) for c in cells for b in backbones))
    if strategies:
        cells = tuple(dict.fromkeys(replace(c, strategy=s) for c in cells for s in strategies))
    if datasets:
        wanted = [DataName.parse(d).absolute() for d in datasets]
        known = [c for c in cells if c.data in wanted]
        fresh = [w for w in wanted if w not in {c.data for c in cells}]
        cells = (*known, *dict.fromkeys(replace(c, dataset=d.dataset, splits=d.splits) for d in fresh for c in cells))
    cells = tuple(replace(c, dataset=c.data.absolute().dataset) for c in cells)
    given: dict[str, Any] = {k: v for k, v in fields.items() if v is not None}
    if {c.data for c in cells} != {c.data for c in study.cells}:
        # what it said of its own data is not true of these
        given.setdefault("about", f"The protocol of {study.name} on other data." if study.name in STUDIES else "")
    if "metric" in given and "margin" not in given and study.margin == 1 and (own := find_metric(given["metric"])) != study.scored_by:
        given["margin"] = own.margin
    protocol = {k: given.pop(k) for k in [f.name for f in dataclasses.fields(Protocol)] if k in given}
    if "image_size" in protocol and all(c.image_size for c in cells):
        sizes = ", ".join(map(str, sorted({c.image_size for c in cells})))
        raise ConfigError(
            f"image_size {protocol['image_size']} would change nothing: {study.name} asks at {sizes} px. Change image_sizes in its file."
        )
    if "trials" in given and "random_trials" not in given:
        given["random_trials"] = min(study.random_trials, max(int(given["trials"]) - 1, 0))
    return replace(study, cells=cells, protocol=replace(study.protocol, **protocol), **given)


NAMES = ("measure", "explain", "search")
"""Fields that hold several names, given with commas between."""


def settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Return NAME=VALUE, as `--set` has them: fields of the protocol and of the study, by name, as `narrow` takes them. Raises
    ConfigError."""
    fixed = {
        "cells": "give --datasets, --backbones, --strategies",
        "protocol": "name its fields",
        "space": "write Study(space=...) in a file",
        "published": "the ledger fills it in",
    }
    known = {f.name: cls for cls in (Study, Protocol) for f in dataclasses.fields(cls) if f.name not in fixed}
    searched = {n: s for s, cls in STRATEGIES.items() for n in domains(cls)} | dict.fromkeys(domains(Recipe), "recipe")
    found: dict[str, Any] = {}
    for name, text in assigned(pairs).items():
        if name in searched:
            raise ConfigError(
                f"--set {name}: a study searches it. Set its range in a study file: Study(space={{'{searched[name]}.{name}': ...}})."
            )
        if name in fixed:
            raise ConfigError(f"--set {name}: {fixed[name]}.")
        if name not in known:
            raise ConfigError(f"Unknown setting {name!r}. Choose from {nearest(name, list(known))}.")
        try:
            found[name] = tuple(filter(None, text.split(","))) if name in NAMES else parse(known[name], name, text)
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return found
