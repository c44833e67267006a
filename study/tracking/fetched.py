"""A study that is fetched again: files that are as they were fetched may be replaced by newer ones, and no others."""

import json
from collections.abc import Iterable
from typing import Any

from study.errors import ConfigError
from study.records import dumps
from study.storage.folder import Folder
from study.tracking.cursor import mark

NAME = ".fetched.json"
SHOWN = 3  # names of files that differ

Marks = dict[str, list[str]]
"""Marks of a server's versions of each file, by its name within the study's folder: the newest two, since a fetch may end in between."""


def check(folder: Folder, files: Iterable[tuple[str, bytes]], *, overwrite: bool) -> Marks:
    """Return the marks of the files fetched before and of those to come.

    Raises ConfigError where a file here was not fetched from a server and differs.
    """
    known, coming, differ = _known(folder), Marks(), list[str]()
    for name, data in files:
        coming[name] = [*known.get(name, [])[-1:], mark(data)]
        here = folder.read(name)
        if here is not None and here != data and mark(here) not in known.get(name, []):
            differ.append(name)
    if differ and not overwrite:
        more = f" and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
        raise ConfigError(
            f"{folder.location} holds what the server has not: {', '.join(differ[:SHOWN])}{more} "
            f"{'differ' if len(differ) > 1 else 'differs'}, and not by a fetch. Nothing was changed. Fetch into another folder, "
            "or replace them with --overwrite."
        )
    folder.write(NAME, dumps(known | coming).encode())
    return known | coming


def write(folder: Folder, files: Iterable[tuple[str, bytes]], known: Marks) -> None:
    """Write the files that differ and remember all of them, also where an error interrupts it."""
    marks = dict(known)
    try:
        for name, data in files:
            if folder.read(name) != data:
                folder.write(name, data)
            marks[name] = [*known.get(name, [])[-1:], mark(data)]
    finally:
        if marks:
            folder.write(NAME, dumps(marks).encode())


def _known(folder: Folder) -> Marks:
    """Return the marks; none where nothing was fetched or they cannot be read, so that no differing file is replaced."""
    try:
        values: Any = json.loads(folder.read(NAME) or b"{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {k: [m for m in v if isinstance(m, str)] for k, v in values.items() if isinstance(v, list)}
