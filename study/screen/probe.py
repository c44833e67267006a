"""The probe of one network on one data set: one pass over its training and validation images, kept where the line to beat keeps it."""

import shlex
import time
from dataclasses import dataclass

import numpy as np

from study.datasets.spec import ImageTable
from study.errors import DataError
from study.networks.image_sizes import check_forward, full_size
from study.networks.pretrained import create
from study.networks.weights import licence_of, timm_name
from study.question.cell import Cell
from study.question.training_settings import Protocol, Recipe
from study.question.trial_config import TrialConfig
from study.run import open_inputs
from study.screen.cross_validate import folds_of, predict_each
from study.storage.places import Places
from study.strategies import Features
from study.training.exact import STRENGTHS, freeze

BYTES = 4  # of a parameter, in single precision
MOST = 200_000_000  # numbers held at once: strengths times images times classes


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """The images that networks are ranked on: a data set's training and validation images. Its test images stay closed."""

    dataset: str
    splits: str
    classes: tuple[str, ...]
    labels: np.ndarray  # int64 [N]
    groups: np.ndarray | None  # int64 [N]
    folds: tuple[np.ndarray, ...]  # positions
    said: str  # of copies that are kept on one side


@dataclass(frozen=True, kw_only=True, eq=False)
class Probed:
    """The result of a network's probe."""

    network: str
    said: np.ndarray  # int64 [N]: of every image, by a classifier that was not fitted on it
    strengths: tuple[float, ...]  # by fold
    image_size: int
    pass_seconds: float  # of the images through the network; near nothing where the cache had them
    probe_seconds: float  # of all classifiers
    parameters: int
    weights: str  # where they came from
    licence: str  # a sentence

    @property
    def megabytes(self) -> float:
        return BYTES * self.parameters / 1e6


def line_config(network: str, dataset: str, splits: str, image_size: int | None) -> TrialConfig:
    """Return the line to beat of a study of this network, so that both share their features. Raises ConfigError for an unknown network."""
    size = image_size or full_size(timm_name(network))
    cell = Cell(dataset=dataset, splits=splits, backbone=network, strategy=Features.name)
    return TrialConfig(cell=cell, strategy=Features(), recipe=Recipe(), protocol=Protocol(max_epochs=1, image_size=size))


def open_task(table: ImageTable, network: str, splits: str, image_size: int | None, places: Places) -> Task:
    """Return `table`'s images at `network`'s size; the folds are the same for every network. Raises DataError."""
    if table.several:
        raise DataError(
            f"{table.name}: networks are screened on images with one label, and these may have several. Name one to the study "
            f"itself: python -m study.sweep mine --datasets {shlex.quote(table.name)} --backbones NETWORK"
        )
    if table.tiles != (1, 1):
        raise DataError(f"{table.name}: networks are screened on whole images. Leave tiles out to rank them.")
    inputs = open_inputs(line_config(network, table.name, splits, image_size), places)
    seen = inputs.table
    rows = np.concatenate([inputs.train, inputs.val])
    labels, groups = seen.labels[rows], None if seen.groups is None else seen.groups[rows]
    if len(STRENGTHS) * len(rows) * len(seen.classes) > MOST:
        raise DataError(
            f"{table.name}: {len(rows):,} images of {len(seen.classes):,} classes are more than are screened at once. Give a table "
            "of a part of them."
        )
    folds, said = folds_of(labels, groups, inputs.images.pixels(rows), table.name)
    return Task(dataset=table.name, splits=splits, classes=seen.classes, labels=labels, groups=groups, folds=tuple(folds), said=said)


def _check_size(config: TrialConfig, classes: int, places: Places) -> None:
    """Raise ConfigError where the network does not take images of this size, or has no weights."""
    size = config.protocol.image_size
    whole = create(config.cell.backbone, classes, weights=places.weights, image_size=size)
    check_forward(whole.model, timm_name(config.cell.backbone), whole.input_size)


def probe(network: str, task: Task, image_size: int | None, places: Places) -> Probed:
    """Probe a network. Raises ConfigError for a network without weights, or that cannot be cut below a linear head."""
    config = line_config(network, task.dataset, task.splits, image_size)
    inputs = open_inputs(config, places)
    began = time.perf_counter()
    _check_size(config, len(task.classes), places)
    frozen = freeze(config, inputs, weights=places.weights)
    features = np.concatenate([part for part in (frozen.train(), frozen.val()) if len(part)])
    passed = time.perf_counter()
    weights = inputs.weights_of(np.concatenate([inputs.train, inputs.val]))
    said, strengths = predict_each(features, task.labels, len(task.classes), task.folds, weights)
    return Probed(
        network=network,
        said=said,
        strengths=tuple(strengths),
        image_size=config.protocol.image_size,
        pass_seconds=passed - began,
        probe_seconds=time.perf_counter() - passed,
        parameters=sum(p.numel() for p in frozen.network.parameters()),
        weights=frozen.backbone.weights,
        licence=licence_of(network, frozen.backbone.weights),
    )
