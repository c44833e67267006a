"""The measurements, by name. To add one: a file beside this one, and its line."""

from study.errors import ConfigError, nearest
from study.measure.background import Background
from study.measure.base import Measurement
from study.measure.calibration import Calibration
from study.measure.cka import Cka
from study.measure.corruptions import Corruptions
from study.measure.forgetting import Forgetting
from study.measure.predictions import Predictions, Validation
from study.measure.reprobe import Reprobe
from study.measure.seen_copies import Copies
from study.measure.wise_ft import WayBack

# in the order in which they are made: some rest on the predictions
MEASUREMENTS: dict[str, Measurement] = {
    m.name: m for m in (Predictions(), Cka(), Reprobe(), Forgetting(), WayBack(), Background(), Copies(), Corruptions(), Calibration())
}


OF_DELIVERY: dict[str, Measurement] = {m.name: m for m in (Validation(),)}
"""Measurements on the runs that decide the training length of the delivered network; no study asks for them."""


def find_measurements(names: tuple[str, ...]) -> list[Measurement]:
    """Return measurements by name, in the order in which they are made. Raises ConfigError listing the known ones."""
    known = MEASUREMENTS | OF_DELIVERY
    if unknown := [n for n in names if n not in known]:
        raise ConfigError(f"Unknown measurement {unknown[0]!r}. Choose from {nearest(unknown[0], list(MEASUREMENTS))}.")
    return [m for n, m in known.items() if n in names]


def opens_test(names: tuple[str, ...]) -> bool:
    """Return True where any of them uses the test split; then the ledger's lock is asked first."""
    return any("test" in m.splits for m in find_measurements(names))
