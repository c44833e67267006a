"""How data sets are called: NAME[@SPLITS] of those that are known here, KIND:WHERE[?OPTION=VALUE&...][@SPLITS] of a user's own.

A name is taken apart here and nowhere else, and every other form of it is one of its properties.
"""

import functools
import os
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, cast
from urllib.parse import parse_qsl, quote

from study.errors import ConfigError, nearest

COLUMNS = ("image", "label", "split", "group", "weight")
OPTIONS: dict[str, tuple[str, ...]] = {"folder": (), "table": (*COLUMNS, "names", "images"), "hf": (*COLUMNS, "config")}
"""What may be given after "?", by kind."""
WHERE = {"folder": "a folder of images", "table": "a table of labels", "hf": "a folder, or a name on the Hugging Face hub"}
"""What stands behind each kind."""
IMAGES = ("", "images", "imgs", "img", "data", "photos", "pictures")
"""Folders beside a table where its files are looked for, in this order."""
OFFICIAL = "official"
"""The split protocol of all data where no other is named, and the only one of a user's own."""
PROTOCOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
FOLD = re.compile(r"(0|[1-9][0-9]{0,8})(?:\+([1-9][0-9]{0,8}))?")
OWN_SPLITS = re.compile(rf"(.*)@({OFFICIAL}(?::[0-9]+(?:\+[0-9]+)?)?)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class DataName:
    """A data set and how it is split, as it is named. Raises ConfigError for what no text can name: it says which part, and what to write."""

    kind: str = ""  # folder, table or hf: a user's own; empty: one of `study.datasets`
    where: str  # a path, a name on the hub, or the name of one of `study.datasets`
    asked: str = ""  # the options as they were written, without the "?"
    protocol: str = OFFICIAL  # how it is split
    fold: int | None = None  # 0 is the first, as None is, and is written
    shift: int = 0  # so many folds further than usual lies the validation split

    def __post_init__(self) -> None:
        _check_place(self)
        _check_splits(self)

    # ---- from texts ----------------------------------------------------------------------------------------------

    @classmethod
    def parse(cls, text: str) -> Self:
        """The name that a person typed. A path of the user's own may hold an @ itself. Raises ConfigError."""
        dataset, splits = text, OFFICIAL
        if _is_own(text):
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
    def of(cls, dataset: str, splits: str = OFFICIAL) -> Self:
        """The name as cells and JSON hold it, in two parts: `dataset`, and `splits` = PROTOCOL[:FOLD[+SHIFT]]. Raises ConfigError."""
        return cast(Self, _of(cast(Hashable, cls), dataset, splits))

    @classmethod
    def of_table(cls, given: str) -> Self:
        """The table at a path, with or without its kind before it and columns behind it. Raises ConfigError."""
        return cls.of(given if given.startswith("table:") else f"table:{given}")

    # ---- to texts ------------------------------------------------------------------------------------------------

    @functools.cached_property
    def dataset(self) -> str:
        """The data set alone, as cells, JSON and the readers of data have it."""
        return f"{self.kind}{':' * self.own}{self.where}{'?' * bool(self.asked)}{self.asked}"

    @functools.cached_property
    def splits(self) -> str:
        """PROTOCOL[:FOLD[+SHIFT]], as cells and JSON have it."""
        return self.protocol if self.fold is None else f"{self.protocol}:{self.fold}{f'+{self.shift}' * (self.shift > 0)}"

    @property
    def text(self) -> str:
        """The name as `parse` takes it, its splits left out where they are the official ones."""
        usual = self.splits == OFFICIAL and not (self.own and OWN_SPLITS.fullmatch(self.dataset))
        return self.dataset if usual else self.full

    @property
    def full(self) -> str:
        """The data set with its splits, whatever they are."""
        return f"{self.dataset}@{self.splits}"

    @property
    def key(self) -> str:
        """The data set with its protocol, without a fold: what the ledger's files know it by."""
        return f"{self.dataset}@{self.protocol}"

    @functools.cached_property
    def short(self) -> str:
        """The data set as people say it: of folder:/where/it/lies and table:/where/it/lies.csv?label=x the last part, without where and how
        it is read."""
        place = f"{self.kind}{':' * self.own}{self.where}"
        return place.rstrip("/").rpartition("/")[2] or self.dataset

    @property
    def short_full(self) -> str:
        """The same with its splits, whatever they are."""
        return f"{self.short}@{self.splits}"

    @property
    def called(self) -> str:
        """The same with its protocol where that is not the official one."""
        return self.short if self.protocol == OFFICIAL else f"{self.short}@{self.protocol}"

    @property
    def splits_said(self) -> str:
        """Its splits in words; empty where they are the official ones."""
        return splits_said(self.splits)

    # ---- what it says --------------------------------------------------------------------------------------------

    @property
    def own(self) -> bool:
        """Whether it names a user's own images."""
        return self.kind != ""

    @property
    def options(self) -> dict[str, str]:
        """How it is read, by OPTIONS."""
        return dict(parse_qsl(self.asked, keep_blank_values=True))

    def files(self, root: str) -> list[str]:
        """The paths where its files may lie, `root` being the folder of --data: what a node must hold.

        Of a table: itself, and folders of images that it names or that lie beside it by a usual name; not the folder it is in, which may hold
        anything.
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
    def whole(self) -> Self:
        """The same without its fold."""
        return replace(self, fold=None, shift=0)

    def on_fold(self, fold: int, shift: int = 0) -> Self:
        """The same on this fold of its protocol, with the validation split so many folds further than usual."""
        return replace(self, fold=fold, shift=shift)

    def given(self, **options: str) -> Self:
        """The same with these options too, in the place of those it has of the same names."""
        kept = [part for part in self.asked.split("&") if part and part.partition("=")[0] not in options]
        return replace(self, asked="&".join([*kept, *(f"{name}={quote(value, safe='/')}" for name, value in options.items())]))

    @property
    def at_home(self) -> Self:
        """The same with the home folder where its path begins with ~: no shell replaces it behind a colon."""
        return replace(self, where=os.path.expanduser(self.where)) if self.own else self

    def absolute(self, base: Path | None = None) -> Self:
        """The same by its full path: workers on a cluster run elsewhere, and a command must mean the same study from any folder.

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
        """Raises ConfigError where what it names is not here, and its path ends in what looks like options or splits."""
        if not self.own or os.path.exists(self.where):
            return
        place, mark, tail = self.where.rpartition("?")
        if mark and OPTIONS[self.kind]:
            _check_options(self.kind, place, tail, self.dataset)
            raise ConfigError(f"{self.dataset}: behind the ? is no option. Write {self.kind}:{place}.")
        place, mark, tail = self.where.rpartition("@")
        if mark and os.path.exists(place) and re.fullmatch(r"[A-Za-z_]+(:[0-9]+)?", tail):
            fold = tail.partition(":")[2]
            raise ConfigError(
                f"{self.dataset}: {tail!r} is no split protocol of your own images, which have {OFFICIAL} alone. "
                f"Write {self.kind}:{place}{f'@{OFFICIAL}:{int(fold)}' if fold else ''}."
            )


def splits_said(splits: str) -> str:
    """PROTOCOL[:FOLD[+SHIFT]] in words; empty for the official ones."""
    return "" if splits == OFFICIAL else f"{splits} splits"


def _is_own(text: str) -> bool:
    return text.partition(":")[0] in OPTIONS and ":" in text


@functools.lru_cache(maxsize=4096)
def _of(cls: Callable[..., DataName], dataset: str, splits: str) -> DataName:
    """Asked for each row of each table: most studies have one or two."""
    protocol, colon, fold = splits.partition(":")
    found = FOLD.fullmatch(fold)
    if colon and not found:
        near = int(fold) if fold.isdecimal() else 0
        raise ConfigError(
            f"splits {splits!r} of {dataset}: the fold must be a whole number, not {fold!r}. Write {dataset}@{protocol}:{near}."
        )
    parts = _place(dataset)
    return cls(**parts, protocol=protocol, fold=int(found[1]) if found else None, shift=int(found[2] or 0) if found else 0)


def _place(dataset: str) -> dict[str, str]:
    """Kind, where and options. They begin at the last "?" that an option's name and "=" follow: a path may hold a "?" itself."""
    if not _is_own(dataset):
        return {"kind": "", "where": dataset, "asked": ""}
    kind, _, rest = dataset.partition(":")
    begins = [m.start() for m in re.finditer(rf"\?(?:{'|'.join(OPTIONS[kind])})=", rest)] if OPTIONS[kind] else []
    at = begins[-1] if begins else len(rest)
    return {"kind": kind, "where": rest[:at], "asked": rest[at + 1 :]}


def _check_place(name: DataName) -> None:
    dataset = name.dataset
    if not name.own:
        if not name.where.strip() or "@" in name.where:
            raise ConfigError(f"{dataset!r} names no data set. Write digits, digits@{OFFICIAL}:1, or folder:PATH for your own images.")
        if ":" in name.where:
            raise ConfigError(_no_kind(name.where))
        return
    if name.kind not in OPTIONS:
        raise ConfigError(_no_kind(dataset))
    if not name.where.strip():
        raise ConfigError(f"{dataset} names nothing; write {name.kind}: and {WHERE[name.kind]}.")
    if name.asked:
        _check_options(name.kind, name.where, name.asked, dataset)
    if _place(dataset) != {"kind": name.kind, "where": name.where, "asked": name.asked}:
        raise ConfigError(f"{dataset}: its path reads as options from a ? on. Rename the file or folder with the ? in its name.")


def _no_kind(dataset: str) -> str:
    kind, _, rest = dataset.partition(":")
    if rest.isdecimal():
        return f"{dataset}: a fold stands behind its split protocol. Write {kind}@{OFFICIAL}:{int(rest)}."
    first = nearest(kind.lower(), list(OPTIONS)).partition(",")[0]
    return f"{dataset}: {kind!r} is no kind of data; choose from {nearest(kind.lower(), list(OPTIONS))}. Write {first}:{rest or 'PATH'}."


def _check_options(kind: str, where: str, asked: str, dataset: str) -> None:
    """Raises ConfigError for an option that its kind has not got, one without a value, or with two."""
    known = list(OPTIONS[kind])
    pairs = list(dict.fromkeys(parse_qsl(asked, keep_blank_values=True)))
    for option, value in pairs:
        if len(given := [v for o, v in pairs if o == option]) > 1:
            raise ConfigError(
                f"{dataset}: {option} is given twice, {' and '.join(given)}; keep one. Write {kind}:{where}?{option}={quote(given[0], safe='/')}."
            )
        near = nearest(option, known)
        if option not in known and not value and f"{option}=" not in asked:
            raise ConfigError(
                f"{dataset}: {option!r} is not NAME=VALUE; write {kind}:{where}?label={option}, with one of {near} before the =."
            )
        if option not in known:
            free = nearest(option, [name for name in known if f"{name}=" not in asked] or known).partition(",")[0]
            right = f"{kind}:{where}?{asked.replace(f'{option}=', f'{free}=', 1)}"
            raise ConfigError(f"{dataset}: {kind} data have no option {option!r}; choose from {near}. Write {right}.")
        if not value:
            raise ConfigError(f"{dataset}: {option} is empty; give a name, or leave it out. Write {kind}:{where}?{option}=NAME.")


def _check_splits(name: DataName) -> None:
    if name.own and name.protocol != OFFICIAL:
        raise ConfigError(
            f"{name.dataset} has one split protocol, {OFFICIAL}, with folds 0..4; not {name.splits!r}. "
            f"Write {replace(name, protocol=OFFICIAL).text}."
        )
    if not PROTOCOL.fullmatch(name.protocol):
        near = next(iter(re.findall(PROTOCOL, name.protocol)), OFFICIAL)
        raise ConfigError(f"{name.dataset}: {name.protocol!r} cannot be the name of a split protocol. Write {name.dataset}@{near}.")
    if name.fold is not None and name.fold < 0:
        raise ConfigError(f"{name.full}: the fold must be 0 or more. Write {replace(name, fold=0).full}.")
    if name.shift < 0 or (name.shift and name.fold is None):
        raise ConfigError(
            f"{name.full}: a shift of the validation split is 0 or more and stands behind a fold. Write {name.on_fold(0, 1).full}."
        )
