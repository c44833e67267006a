"""Everything that can be wrong with a study, found before a worker starts."""

import dataclasses
from collections import Counter
from typing import Any

from study.config import Study
from study.cost import disk, fastest_precision
from study.datasets import open_dataset
from study.datasets.audit import audit
from study.datasets.spec import ImageTable
from study.errors import ConfigError, DataError, EnvironmentProblem
from study.measure import find_measurements
from study.networks.pretrained import create
from study.networks.sizes import check_forward
from study.networks.weights import timm_name
from study.places import Places
from study.progress import warn
from study.records import dumps
from study.strategies import STRATEGIES
from study.tracking.ledger import Ledger

Tables = dict[tuple[str, str], ImageTable]
"""By (dataset, protocol of its splits)."""


def settle_precision(study: Study, ledger: Ledger, places: Places, threads: int | None = None) -> tuple[Study, dict[str, Any]]:
    """The study with its precision decided: as it was when it first started, else by a short measurement, which is returned."""
    if study.protocol.precision != "auto":
        return study, {}
    known, probe = ledger.study(), dict[str, Any]()
    if known is not None:
        precision = known.protocol.precision
    else:
        names = sorted({c.backbone for c in study.cells})
        precision, rates = fastest_precision(names, study.protocol.image_size, places.weights, threads)
        probe = {"precision_probe": rates}
        print(f"precision {precision}: " + "; ".join(f"{n} {r['fp32']} images/s in fp32, {r['bf16']} in bf16" for n, r in rates.items()))
    return dataclasses.replace(study, protocol=dataclasses.replace(study.protocol, precision=precision)), probe


def open_tables(study: Study, places: Places) -> Tables:
    """Every data set of the study, headers read. Raises ConfigError or DataError."""
    tables: Tables = {}
    for cell in study.cells:
        key = (cell.dataset, cell.split_protocol)
        if key not in tables:
            tables[key] = open_dataset(cell.dataset, splits=cell.splits, root=places.data_root)
            print(f"{cell.dataset}: {tables[key].form}")
        if len(tables[key].classes) < 2:
            raise DataError(f"{cell.dataset} has fewer than two classes; there is nothing to tell apart.")
    return tables


def check_models(study: Study, places: Places) -> dict[str, int]:
    """Weights are there wherever a strategy starts from them, every network takes images of the study's size, every strategy fits its
    network, every measurement is known.

    Returns parameters by backbone. Raises ConfigError.
    """
    find_measurements(study.measure)
    parameters: dict[str, int] = {}
    size = study.protocol.image_size
    for name in dict.fromkeys(c.backbone for c in study.cells):
        cells = [c for c in study.cells if c.backbone == name]
        starts = {STRATEGIES[c.strategy].start for c in cells}
        made = create(name, 2, weights=places.weights, start="pretrained" if "pretrained" in starts else "random", image_size=size)
        check_forward(made.model, timm_name(name), made.input_size)
        for cell in cells:
            try:
                STRATEGIES[cell.strategy]().phases(made.num_stages, study.protocol.max_epochs)
            except ValueError as error:
                raise ConfigError(f"{cell.id}: {error}") from None
        parameters[name] = sum(p.numel() for p in made.model.parameters())
    return parameters


def check_room(study: Study, ledger: Ledger, parameters: dict[str, int]) -> None:
    """Raises EnvironmentProblem when the disk cannot hold what the study will write: better now than after two days."""
    free = ledger.folder.free()
    done = Counter(a.cell for a in ledger.asks() if ledger.result(a.trial_id))
    runs = study.trials + study.confirm_seeds * study.confirm_folds
    needed = disk(study, parameters, {c.id: max(runs - done[c.id], 0) for c in study.cells})
    if free is not None and free < needed:
        raise EnvironmentProblem(
            f"{ledger.folder.location} has {free / 1e9:.2f} GB free and the study may write {needed / 1e9:.2f} GB; "
            "free some, or choose another disk with --results."
        )


def check_data(tables: Tables, ledger: Ledger) -> list[str]:
    """The data doctor, once per data set and study; its findings stand in data_report.json. Raises DataError."""
    reports, warnings = {}, []
    for (name, splits), table in tables.items():
        found = audit(table)
        reports[f"{name}@{splits}"] = found.as_dict()
        warnings += [f"{name}: {w}" for w in found.warnings]
        if found.blocking:
            raise DataError(f"{name}: {found.problems[0]} (python -m study.datasets check {name} shows all)")
    ledger.folder.write("data_report.json", dumps(reports, indent=1).encode())
    for line in warnings:
        warn(line)
    return warnings
