"""How a user's own data are called: KIND:WHERE[?name=value&...], as in table:labels.csv?image=file&label=species."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from study.errors import ConfigError, nearest

COLUMNS = ("image", "label", "split", "group", "weight")
OPTIONS: dict[str, tuple[str, ...]] = {"folder": (), "table": (*COLUMNS, "names", "images"), "hf": (*COLUMNS, "config")}
"""What may be given after "?", by kind."""
IMAGES = ("", "images", "imgs", "img", "data", "photos", "pictures")
"""Folders beside a table where its files are looked for, in this order."""
SPLITS = re.compile(r"(.*)@(official(?::\d+)?)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Named:
    """A data set of a user's own, taken apart."""

    kind: str
    where: str
    options: dict[str, str]


def is_own(name: str) -> bool:
    return name.partition(":")[0] in OPTIONS and ":" in name


def with_splits(name: str) -> tuple[str, str]:
    """(data set, protocol of its splits) of NAME[@SPLITS]. A path of the user's own may hold an @ itself."""
    if is_own(name):
        found = SPLITS.fullmatch(name)
        return (found[1], found[2]) if found else (name, "official")
    dataset, _, splits = name.partition("@")
    return dataset, splits or "official"


def taken_apart(name: str) -> Named:
    """Raises ConfigError for an option that its kind has not got, or one without a value."""
    kind, _, rest = name.partition(":")
    known = list(OPTIONS[kind])
    if not known or "?" not in rest or os.path.exists(rest):
        return Named(kind=kind, where=rest, options={})
    where, _, query = rest.rpartition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not options and query:
        raise ConfigError(f"{name}: {query!r} is not NAME=VALUE; write {kind}:{where}?label=species, with {', '.join(known)}.")
    for option, value in options.items():
        if option not in known:
            raise ConfigError(f"{name}: {kind} data have no option {option!r}; choose from {nearest(option, known)}.")
        if not value:
            raise ConfigError(f"{name}: {option} is empty; give a name, or leave it out.")
    return Named(kind=kind, where=where, options=options)


def absolute_name(name: str, base: Path | None = None) -> str:
    """The same by its full path: workers on a cluster run elsewhere, and a command must mean the same study from any folder.

    `hf:` names that are no folder here are names on the hub, and stay.
    """
    if not is_own(name):
        return name
    kind, _, rest = name.partition(":")
    if not rest.partition("?")[0].strip():  # no path: not the folder where we are
        return name
    full = str((base or Path.cwd()) / Path(rest).expanduser())
    if kind == "hf" and not os.path.exists(taken_apart(f"hf:{full}").where):
        return name
    if kind == "folder":
        return f"{kind}:{Path(rest).expanduser().absolute()}"
    where = taken_apart(f"{kind}:{full}").where  # options may hold paths of their own, from the table on
    return f"{kind}:{os.path.abspath(where)}{full[len(where) :]}"


def dataset_name(dataset: str) -> str:
    """As people say it: of folder:/where/it/lies and table:/where/it/lies.csv?label=x the last part, without where and how it is read."""
    options = "|".join(OPTIONS.get(dataset.partition(":")[0], ()))
    where = re.split(rf"\?(?:{options})=", dataset)[0] if options else dataset
    return where.rstrip("/").rpartition("/")[2] or dataset
