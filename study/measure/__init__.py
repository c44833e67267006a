"""What is measured on a finished trial's network. To add a measurement: a file here, and its line."""

from study.errors import ConfigError, nearest
from study.measure.base import Finished, Measurement
from study.measure.predictions import Predictions

MEASUREMENTS: dict[str, Measurement] = {m.name: m for m in (Predictions(),)}


def find_measurements(names: tuple[str, ...]) -> list[Measurement]:
    """By name. Raises ConfigError listing the known ones."""
    if unknown := [n for n in names if n not in MEASUREMENTS]:
        raise ConfigError(f"Unknown measurement {unknown[0]!r}; choose from {nearest(unknown[0], list(MEASUREMENTS))}.")
    return [MEASUREMENTS[n] for n in names]


def opens_test(names: tuple[str, ...]) -> bool:
    """Whether any of them looks at the test split: then whoever runs it asks the ledger's lock first."""
    return any("test" in m.splits for m in find_measurements(names))


__all__ = ["MEASUREMENTS", "Finished", "Measurement", "find_measurements", "opens_test"]
