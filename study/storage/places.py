"""Folders and files of a study as absolute plain strings, so that every worker on every machine means the same."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from study.question.naming import DataName


@dataclass(frozen=True, kw_only=True)
class Places:
    """Folders (local paths or URLs) of a study, or of one of its trials."""

    folder: str  # the results folder; of a trial: its own
    data: str | None = None
    weights: str | None = None
    cache: str | None = None
    foreign: tuple[str, ...] = ()  # data sets by name, NAME@SPLITS or folder:PATH, whose tasks tuned features are probed on
    labelled: str | None = None  # images of the classes that networks were pretrained on: a folder or a CSV

    def of_trial(self, folder: str) -> "Places":
        return dataclasses.replace(self, folder=folder)

    def with_foreign(self, names: Sequence[str]) -> "Places":
        """Return these places with `names` first among the foreign tasks, before those given already."""
        return dataclasses.replace(self, foreign=tuple(dict.fromkeys((*names, *self.foreign))))

    @property
    def data_root(self) -> Path | None:
        return Path(self.data) if self.data else None

    @property
    def cache_root(self) -> Path | None:
        return Path(self.cache) if self.cache else None


def find_places(
    results: str,
    data: str | None = None,
    weights: str | None = None,
    foreign: Sequence[str] = (),
    labelled: str | None = None,
) -> Places:
    """Return absolute places.

    Under `ray job submit` the working folder is a temporary copy, so a relative results folder is taken from the home folder.
    """
    base = Path.home() if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else Path.cwd()

    def absolute(path: str | None) -> str | None:
        return path if path is None or "://" in path else str((base / Path(path).expanduser()).resolve())

    return Places(
        folder=absolute(results) or "",
        data=absolute(data),
        weights=absolute(weights),
        cache=absolute(os.environ.get("STUDY_CACHE")),
        foreign=tuple(DataName.parse(name).absolute(base).text for name in foreign),
        labelled=absolute(labelled),
    )
