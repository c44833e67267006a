"""Names of data sets: NAME[@SPLITS] of those that are known here, KIND:WHERE[?OPTION=VALUE&...][@SPLITS] of a user's own.

Only this module and name_parts.py take a name apart; every other form of it is one of its properties.
"""

import functools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, quote

from study.errors import ConfigError
from study.question.name_parts import OFFICIAL, OWN_SPLITS, check_path, check_place, check_splits, fold_of, is_own, listed, place_of

IMAGES = ("", "images", "imgs", "img", "data", "photos", "pictures")
"""Folders beside a table where its files are looked for, in this order."""


@dataclass(frozen=True, kw_only=True)
class DataName:
    """A data set with its splits, by name. Raises ConfigError for values that no text can name: it says which part, and what to write."""

    kind: str = ""  # folder, table or hf: a user's own; empty: one of `study.datasets`
    where: str  # a path, a name on the hub, or the name of one of `study.datasets`
    asked: str = ""  # the options as they were written, without the "?"
    protocol: str = OFFICIAL  # how it is split
    fold: int | None = None  # 0 is the first, as None is, and is written
    shift: int = 0  # so many folds further than usual lies the validation split

    def __post_init__(self) -> None:
        check_place(self.kind, self.where, self.asked, self.dataset)
        check_splits(self.dataset, self.own, self.protocol, self.fold, self.shift)

    # ---- from texts ----------------------------------------------------------------------------------------------

    @classmethod
    def parse(cls, text: str) -> "DataName":
        """Return the name that a user typed. A path of the user's own may hold an @ itself. Raises ConfigError."""
        if not isinstance(text, str):
            raise ConfigError(f"{text!r} is no name of a data set. Write it as text: digits, or folder:PATH for your own images.")
        dataset, splits = text, OFFICIAL
        if is_own(text):
            if found := OWN_SPLITS.fullmatch(text):
                dataset, splits = found[1], found[2]
        elif "@" in text:
            dataset, _, splits = text.partition("@")
            if not dataset.strip():
                raise ConfigError(
                    f"{text!r} names no data set before its @. Write digits{text.strip()}, or folder:PATH for your own images."
                )
            if not splits:
                raise ConfigError(f"{text!r} names no split protocol behind its @. Write {dataset}, or {dataset}@{OFFICIAL}.")
        return cls.of(dataset, splits)

    @classmethod
    def of(cls, dataset: str, splits: str = OFFICIAL) -> "DataName":
        """Return the name as cells and JSON hold it, in two parts: `dataset`, and `splits` = PROTOCOL[:FOLD[+SHIFT]]. Raises
        ConfigError."""
        return _of(dataset, splits)

    @classmethod
    def of_table(cls, given: str) -> "DataName":
        """Return the table at a path, with or without its kind before it and columns behind it. Raises ConfigError."""
        return cls.of(given if given.startswith("table:") else f"table:{given}")

    # ---- to texts ------------------------------------------------------------------------------------------------

    @functools.cached_property
    def dataset(self) -> str:
        """Return the data set alone, as cells, JSON and the readers of data have it."""
        return f"{self.kind}{':' * self.own}{self.where}{'?' * bool(self.asked)}{self.asked}"

    @functools.cached_property
    def splits(self) -> str:
        """Return PROTOCOL[:FOLD[+SHIFT]], as cells and JSON have it."""
        return self.protocol if self.fold is None else f"{self.protocol}:{self.fold}{f'+{self.shift}' * (self.shift > 0)}"

    @property
    def text(self) -> str:
        """Return the name as `parse` takes it, without official splits."""
        usual = self.splits == OFFICIAL and not (self.own and OWN_SPLITS.fullmatch(self.dataset))
        return self.dataset if usual else self.full

    @property
    def full(self) -> str:
        """Return the data set with its splits, official ones too."""
        return f"{self.dataset}@{self.splits}"

    @property
    def key(self) -> str:
        """Return the data set with its protocol, without a fold: the key of the ledger's files."""
        return f"{self.dataset}@{self.protocol}"

    @functools.cached_property
    def short(self) -> str:
        """Return the data set's short name: of folder:/where/it/lies and table:/where/it/lies.csv?label=x the last part."""
        place = f"{self.kind}{':' * self.own}{self.where}"
        tiles = self.options.get("tiles", "")  # the same pictures seen otherwise are another data set
        return (place.rstrip("/").rpartition("/")[2] or self.dataset) + f"_{tiles}" * bool(tiles)

    @property
    def short_full(self) -> str:
        """Return the short name with its splits, official ones too."""
        return f"{self.short}@{self.splits}"

    @property
    def called(self) -> str:
        """Return the short name with its protocol where that is not the official one."""
        return self.short if self.protocol == OFFICIAL else f"{self.short}@{self.protocol}"

    @property
    def splits_said(self) -> str:
        """Return its splits in words; an empty text for the official ones."""
        return splits_said(self.splits)

    # ---- what it says --------------------------------------------------------------------------------------------

    @property
    def own(self) -> bool:
        """Return True where it names a user's own images."""
        return self.kind != ""

    @property
    def options(self) -> dict[str, str]:
        """Return its options for reading, by OPTIONS."""
        return dict(parse_qsl(self.asked, keep_blank_values=True))

    @property
    def ordered(self) -> tuple[str, ...]:
        """Return its classes from the least to the most, where it names an order; else an empty tuple."""
        return tuple(listed(self.options.get("ordered", "")))

    def files(self, root: str) -> list[str]:
        """Return the paths where its files may be, `root` being the folder of --data: a node of a cluster must have them.

        For a table these are the table itself, and folders of images that it names or that are beside it under a usual name; not the
        folder it is in, which may hold anything.
        """
        if not self.own:
            return [os.path.join(root, self.where)]
        if self.kind != "table":
            return [self.where]
        options = self.options
        beside = [options[o] for o in ("images", "names") if o in options] + ([] if "images" in options else [*filter(None, IMAGES)])
        return [self.where, *(os.path.join(os.path.dirname(self.where), name) for name in beside)]

    # ---- other names ---------------------------------------------------------------------------------------------

    @property
    def whole(self) -> "DataName":
        """Return the name without its fold."""
        return replace(self, fold=None, shift=0)

    def on_fold(self, fold: int, shift: int = 0) -> "DataName":
        """Return the name on this fold of its protocol, with the validation split so many folds further than usual."""
        return replace(self, fold=fold, shift=shift)

    def given(self, **options: str) -> "DataName":
        """Return the name with these options too, replacing those of the same names."""
        kept = [part for part in self.asked.split("&") if part and part.partition("=")[0] not in options]
        return replace(self, asked="&".join([*kept, *(f"{name}={quote(value, safe='/')}" for name, value in options.items())]))

    @property
    def at_home(self) -> "DataName":
        """Return the name with the home folder where its path begins with ~: no shell replaces it behind a colon."""
        return replace(self, where=os.path.expanduser(self.where)) if self.own else self

    def absolute(self, base: Path | None = None) -> "DataName":
        """Return the name with its full path: workers on a cluster run elsewhere, and a command must mean the same study from any folder.

        `hf:` names that are no folder here are names on the hub, and stay.
        """
        if not self.own:
            return self
        rest = self.dataset.removeprefix(f"{self.kind}:")
        full = self.of(f"{self.kind}:{(base or Path.cwd()) / Path(rest).expanduser()}", self.splits)
        if self.kind == "hf" and not os.path.exists(full.where):
            return self
        return full if self.kind == "folder" else replace(full, where=os.path.abspath(full.where))

    def check_path(self) -> None:
        """Raise ConfigError where its file or folder is not here, and its path ends in what looks like options or splits."""
        if self.own:
            check_path(self.kind, self.where, self.dataset)


def splits_said(splits: str) -> str:
    """Return PROTOCOL[:FOLD[+SHIFT]] in words; an empty text for the official ones."""
    return "" if splits == OFFICIAL else f"{splits} splits"


@functools.lru_cache(maxsize=4096)
def _of(dataset: str, splits: str) -> DataName:
    """Return the name, computed once: it is asked for in each row of each table, and most studies have one or two."""
    protocol, colon, numbers = splits.partition(":")
    fold, shift = fold_of(dataset, protocol, numbers) if colon else (None, 0)
    return DataName(**place_of(dataset), protocol=protocol, fold=fold, shift=shift)
