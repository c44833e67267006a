"""The measurements of a finished trial's network. `contents` lists them; it is loaded late, so that commands check arguments before
PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.measure.base import Finished, Measurement
    from study.measure.contents import MEASUREMENTS, find_measurements, opens_test

LATER = {
    "Finished": "study.measure.base",
    "Measurement": "study.measure.base",
    "MEASUREMENTS": "study.measure.contents",
    "find_measurements": "study.measure.contents",
    "opens_test": "study.measure.contents",
}

__all__ = ["MEASUREMENTS", "Finished", "Measurement", "find_measurements", "opens_test"]


def __getattr__(name: str) -> Any:
    if name in LATER:
        return getattr(import_module(LATER[name]), name)
    raise AttributeError(f"module 'study.measure' has no attribute {name!r}")
