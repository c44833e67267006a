"""Checks of everything that can be wrong with a study, made before a worker starts."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from study.budget.cost import disk, fastest_precision
from study.conduct.outer_folds import check_each_fold, check_outer_folds, few_tested
from study.conduct.runners import check_machine
from study.conduct.same_images import Tables, check_same, twice_there
from study.conduct.stages import ended
from study.conduct.workplace import Workplace
from study.console.progress import warn
from study.datasets import open_dataset
from study.datasets.audit import audit, long_said, rare
from study.datasets.spec import TEST, VAL, kept_by_class
from study.errors import ConfigError, DataError, EnvironmentProblem
from study.measure import find_measurements
from study.networks.fits import phases_on
from study.networks.image_sizes import check_forward, own_size
from study.networks.memory import check_memory
from study.networks.pretrained import create
from study.networks.weights import timm_name
from study.question.cell import Cell
from study.question.naming import DataName
from study.question.study_config import Study
from study.records import Stage, dumps
from study.search.confirmed import checks
from study.space import Choice, extremes
from study.storage.options import Options
from study.storage.places import Places
from study.strategies import EVERY
from study.strategies.slots import Start
from study.tracking.ledger import Ledger
from study.training.batches import check_share, fewest_images

MANY_LONG = 0.1
"""The share of the images from which on a study that sees centre squares says that ends are lost."""
OF_LABELS = ("macro_f1", "f1")
"""Metrics that images with several labels bear."""


def settle_precision(study: Study, ledger: Ledger, places: Places, threads: int | None = None) -> tuple[Study, dict[str, Any]]:
    """Return the study with its precision decided, and the measurement that decided it.

    The precision is the one it had when it first started, else the result of a short measurement.
    """
    if study.protocol.precision != "auto":
        return study, {}
    known, probe = ledger.study(), dict[str, Any]()
    if known is not None:
        precision = known.protocol.precision
    else:
        names = sorted({c.backbone for c in study.cells})
        size = max(study.protocol_of(c).image_size for c in study.cells)
        precision, rates = fastest_precision(names, size, places.weights, threads)
        probe = {"precision_probe": rates}
        print(f"precision {precision}: " + "; ".join(f"{n} {r['fp32']} images/s in fp32, {r['bf16']} in bf16" for n, r in rates.items()))
    return dataclasses.replace(study, protocol=dataclasses.replace(study.protocol, precision=precision)), probe


def check_study(work: Workplace, options: Options, say: Callable[[str], object] = print) -> tuple[dict[str, int], Tables]:
    """Return the parameters by backbone and the tables of a study that can be run here, before anything is written.

    Raises ConfigError, DataError or EnvironmentProblem.
    """
    study, places = work.study, work.places
    check_machine(study, options)
    parameters = check_models(study, places)  # a misspelt name is said before any image is looked at, a size before it is tried
    tables = open_tables(study, places, say)
    check_batches(study, tables, places)
    return parameters, tables


def open_tables(study: Study, places: Places, say: Callable[[str], object] = print) -> Tables:
    """Return every data set of the study, headers read, once its folds and sizes are checked; `say` is told their forms.

    Raises ConfigError or DataError.
    """
    tables: Tables = {}
    for data in dict.fromkeys(c.data for c in study.cells):
        table = open_dataset(data.dataset, splits=data.splits, root=places.data_root)
        if tables.setdefault((data.dataset, data.protocol), table) is table:
            say(f"{data.dataset}: {table.form}")
        if len(table.classes) < 2:
            raise DataError(f"{data.dataset} has fewer than two classes. There is nothing to tell apart.")
        if table.several and study.scored_by.name not in OF_LABELS:
            raise ConfigError(
                f"metric {study.scored_by.text} is of images that have one label, and those of {data.dataset} may have "
                f"several. Choose from {', '.join(OF_LABELS)}."
            )
        study.scored_by.bind(table.classes).check(table.labels[table.split == TEST])
    check_outer_folds(study, tables)
    check_each_fold(study, tables, places)
    _check_sizes(study, tables)
    return tables


def _check_sizes(study: Study, tables: Tables) -> None:
    """Check that every fraction keeps its share of each class, differs from the others, and can be trained on. Raises ConfigError."""
    sizes: dict[tuple[str, str, int], float] = {}
    for cell in dict.fromkeys(dataclasses.replace(c, strategy="full", backbone="any") for c in study.cells):
        table, fraction, where = tables[cell.dataset, cell.split_protocol], cell.train_fraction, f"{cell.dataset}: train_fraction"
        have, kept = table.counts()["train"], kept_by_class(table, cell.train_fraction)
        fewest = min(n for n in have if n)
        if fraction < 1 and round(fewest * fraction) < 1:
            raise ConfigError(
                f"{where} {fraction:g} leaves class {table.classes[have.index(fewest)]} ({fewest} training images) without any; "
                f"take {_least(fewest):g} or more."
            )
        images, p = sum(kept), study.protocol_of(cell)
        if fraction < 1 and (images < 2 * p.workers or p.steps(images) < 2):
            raise ConfigError(
                f"{where} {fraction:g} keeps {images} images, so a trial has {p.steps(images)} step(s) for {p.workers} worker(s); "
                "it needs 2 steps, and 2 images a worker: take a larger fraction, or raise max_epochs or min_steps."
            )
        other = sizes.setdefault((cell.dataset, cell.splits, images), fraction)
        if other != fraction:
            raise ConfigError(f"{where} {other:g} and {fraction:g} keep the same {images} images. Drop one of them.")


def check_batches(study: Study, tables: Tables, places: Places) -> None:
    """Check that no training step has fewer images than its network needs. Raises ConfigError with the smallest batch size.

    Networks are made only where a worker would get one image, or none.
    """
    fewest = dict[tuple[str, str, int], int]()
    for cell in study.cells:
        p, table = study.protocol_of(cell), tables[cell.dataset, cell.split_protocol]
        trained = [sum(kept_by_class(table, cell.train_fraction))]
        trained += [trained[0] + table.of(VAL)[0]] if study.deliver else []
        for images in (n for n in trained if p.share(n) < 2):
            for size in dict.fromkeys((p.image_size, study.confirmed_protocol(cell).image_size)):
                key = (cell.backbone, cell.strategy, size)
                if key not in fewest:
                    strategy = EVERY[cell.strategy]()
                    made = create(cell.backbone, 2, weights=places.weights, start=strategy.start, image_size=size)
                    fewest[key] = fewest_images(made, phases_on(strategy, made, max(p.max_epochs, 2), cell.id), p.batch_norm)
                check_share(cell.id, p, images, fewest[key])


def _least(images: int) -> float:
    """Return the smallest fraction, of three digits, that keeps one of so many images."""
    return next(f for f in (k / 1000 for k in range(1, 1001)) if round(images * f) >= 1)


def check_models(study: Study, places: Places, cells: Sequence[Cell] | None = None) -> dict[str, int]:
    """Check weights, networks, strategies and measurements; return the number of parameters by backbone.

    Weights must exist wherever a strategy starts from them, every network must take images of the study's size, every strategy must fit
    its network, and every measurement must be known. `cells`: the cells to run where they are not the study's own, such as lines to beat.
    Raises ConfigError.
    """
    cells = study.cells if cells is None else cells
    find_measurements(study.measure)
    parameters: dict[str, int] = {}
    for name in dict.fromkeys(c.backbone for c in cells):
        own = [c for c in cells if c.backbone == name]
        starts = {EVERY[c.strategy].start for c in own}
        drop_path = max(max(extremes(study.ranges(c).get("drop_path", Choice(0.0)))) for c in own)
        start: Start = "pretrained" if "pretrained" in starts else "random"
        for size in dict.fromkeys(p(c).image_size for c in own for p in (study.confirmed_protocol, study.protocol_of)):
            made = create(name, 2, weights=places.weights, start=start, image_size=size, drop_path=drop_path)
            phases = [phase for c in own for phase in phases_on(EVERY[c.strategy](), made, study.protocol_of(c).max_epochs, c.id)]
            whole = any(phase.cut == made.num_stages for phase in phases)
            check_memory(name, made.model, made.input_size, study.protocol.at_once if whole else 0)
            check_forward(made.model, timm_name(name), made.input_size)
        parameters[name] = sum(p.numel() for p in made.model.parameters())
    return parameters


def own_sizes(study: Study) -> dict[str, int]:
    """Return by backbone the pixels a side that it was made for, where timm says so; the page compares the study's size with it."""
    names = dict.fromkeys(c.backbone for c in study.cells)
    return {name: size for name in names if (size := own_size(timm_name(name))) is not None}


def check_room(study: Study, ledger: Ledger, parameters: dict[str, int]) -> None:
    """Raise EnvironmentProblem when the disk cannot hold what the study will write, before it has run for days."""
    free = ledger.folder.free()
    done, runs = ended(study, ledger), study.trials + study.confirm_seeds
    have = {c.id: sum(done[c.id, s] for s in (Stage.SEARCH, Stage.CONFIRM, Stage.BUDGET)) for c in study.cells}
    left = {c.id: max(runs + checks(study, c) - have[c.id], 0) for c in study.cells}
    needed = disk(study, parameters, left)
    if free is not None and free < needed:
        raise EnvironmentProblem(
            f"{ledger.folder.location} has {free / 1e9:.2f} GB free and the study may write {needed / 1e9:.2f} GB; "
            "free some, or choose another disk with --results."
        )


def check_data(tables: Tables, ledger: Ledger, folds: int = 1, fit: str = "square") -> list[str]:
    """Check the data, once for each data set and study, and write the findings to data_report.json. Returns its warnings.

    Raises DataError, also where a resumed study now has other images, labels or splits than those it was begun with.
    """
    reports, warnings, marks = {}, [], check_same(tables, ledger)
    for (name, splits), table in tables.items():
        key = DataName.of(name, splits).key
        found = audit(table)
        reports[key] = {**found.as_dict(), **marks[key]}
        of_one_fold = rare(table.classes, table.counts()) if folds > 1 else []
        own = [w for w in found.warnings if w not in of_one_fold] + (few_tested(folds, table) if folds > 1 else [])
        if fit == "square" and found.long_images >= MANY_LONG * found.images:
            own.append(long_said(found))
        warnings += [f"{name}: {w}" for w in own]
        if found.blocking:
            raise DataError(f"{name}: {found.problems[0]} (python -m study.datasets check {name} shows all)")
    warnings += twice_there(marks)
    ledger.folder.write("data_report.json", dumps(reports, indent=1).encode())
    for line in warnings:
        warn(line)
    return warnings
