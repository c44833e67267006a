"""Features of a study's training and validation images in the line to beat's network: made once, kept beside that network."""

from typing import TYPE_CHECKING

import numpy as np

from study.conduct.workplace import Workplace
from study.console.progress import busy
from study.datasets.spec import TRAIN, VAL, spread
from study.errors import ConfigError
from study.question.cell import Cell
from study.records import Ask, Origin, Outcome
from study.storage.folder import Folder
from study.strategies import Features
from study.tracking.ledger import Ledger
from study.use.neighbours import features
from study.use.predictor import Predictor
from study.use.unknown import NAME, Known, Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 5000  # training images that are kept


def unknown_of(ledger: Ledger, cell: Cell, data: str | None, *, make: bool = True) -> Unknown | None:
    """Return what tells "none of these" for the cell's data set and backbone. `data`: where the images lie, if features have to be made;
    `make`: whether they may be, else None. Raises ConfigError where the study has no line to beat here."""
    ask = next(_lines(ledger, cell), None)
    if ask is None:
        if not make:
            return None
        raise ConfigError(
            f"{ledger.folder.location} keeps no network of the line to beat on {cell.data.called}, by whose features a picture "
            "of something else is told: leave --none out."
        )
    folder = ledger.trial_folder(ask.trial_id)
    network = Predictor.from_folder(folder)
    known = _read(folder)
    if known is None and not make:
        return None
    return Unknown(network, known or _make(ledger, ask, network, folder, data), network.classes)


def _lines(ledger: Ledger, cell: Cell) -> "Iterator[Ask]":
    """The runs of the line whose network lies here, those of the cell's own split first."""
    asks = [a for a in ledger.asks() if a.origin is Origin.LINE and a.config["cell"]["strategy"] == Features.name]
    same = [a for a in asks if (a.config["cell"]["dataset"], a.config["cell"]["backbone"]) == (cell.dataset, cell.backbone)]
    for ask in sorted(same, key=lambda a: (a.config["cell"]["splits"] != cell.splits, a.sequence)):
        result = ledger.result(ask.trial_id)
        if result and result.outcome is Outcome.COMPLETED and ledger.trial_folder(ask.trial_id).exists("best/manifest.json"):
            yield ask


def _read(folder: Folder) -> Known | None:
    data = folder.read(NAME)
    if data is None:
        return None
    try:
        return Known.from_bytes(data)
    except (ValueError, KeyError, OSError, EOFError):
        return None  # half a file: made again


def _make(ledger: Ledger, ask: Ask, network: Predictor, folder: Folder, data: str | None) -> Known:
    table, pixels = Workplace.of(ledger, data).images(ask)
    train = spread(np.flatnonzero(table.split == TRAIN), table.labels, MOST)
    val = np.flatnonzero(table.split == VAL)
    with busy(f"looking at {len(train) + len(val)} images, once"):
        known = Known(
            train=features(network, np.asarray(pixels[train])),
            train_labels=table.labels[train].astype(np.int64),
            val=features(network, np.asarray(pixels[val])),
            val_labels=table.labels[val].astype(np.int64),
        )
    folder.write(NAME, known.as_bytes())
    return known
