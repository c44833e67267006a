"""The parts of a data set's name: dividing a text into them, and the errors where one of them is wrong."""

import os
import re
from urllib.parse import parse_qsl, quote

from study.errors import ConfigError, nearest

COLUMNS = ("image", "label", "split", "group", "weight")
SEEN = ("tiles", "pool", "ordered")
"""Options of every kind: how its images and classes are seen."""
POOLS = ("mean", "max")
MOST_TILES = 8  # rows or columns
OPTIONS: dict[str, tuple[str, ...]] = {
    "folder": SEEN,
    "table": (*COLUMNS, "labels", "names", "images", *SEEN),
    "hf": (*COLUMNS, "labels", "config", *SEEN),
}
"""Options that may follow "?", by kind."""
WHERE = {"folder": "a folder of images", "table": "a table of labels", "hf": "a folder, or a name on the Hugging Face hub"}
"""The meaning of the text behind each kind."""
OFFICIAL = "official"
"""The split protocol of all data where no other is named, and the only one of a user's own."""
PROTOCOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
FOLD = re.compile(r"(0|[1-9][0-9]{0,8})(?:\+([1-9][0-9]{0,8}))?")
OWN_SPLITS = re.compile(rf"(.*)@({OFFICIAL}(?::[0-9]+(?:\+[0-9]+)?)?)", re.DOTALL)


def is_own(text: str) -> bool:
    return text.partition(":")[0] in OPTIONS and ":" in text


def place_of(dataset: str) -> dict[str, str]:
    """Return kind, place and options, by the names that `DataName` has for them.

    Options begin at the last "?" that an option's name and "=" follow: a path may hold a "?" itself.
    """
    if not is_own(dataset):
        return {"kind": "", "where": dataset, "asked": ""}
    kind, _, rest = dataset.partition(":")
    begins = [m.start() for m in re.finditer(rf"\?(?:{'|'.join(OPTIONS[kind])})=", rest)] if OPTIONS[kind] else []
    at = begins[-1] if begins else len(rest)
    return {"kind": kind, "where": rest[:at], "asked": rest[at + 1 :]}


def fold_of(dataset: str, protocol: str, fold: str) -> tuple[int, int]:
    """Return the fold that stands behind a protocol and its ":", and the number of folds by which its validation split is moved.

    Raises ConfigError for a text that is no whole number, or has leading zeros.
    """
    found = FOLD.fullmatch(fold)
    if found is None:
        near = int(fold[-9:]) if fold.isdecimal() else 0
        raise ConfigError(
            f"splits {f'{protocol}:{fold}'!r} of {dataset}: the fold must be a whole number, not {fold!r}. Write "
            f"{dataset}@{protocol}:{near}."
        )
    return int(found[1]), int(found[2] or 0)


def check_place(kind: str, where: str, asked: str, dataset: str) -> None:
    """Raise ConfigError for a data set, made of the first three, that no text can name."""
    if not kind:
        if not where.strip() or "@" in where:
            raise ConfigError(f"{dataset!r} names no data set. Write digits, digits@{OFFICIAL}:1, or folder:PATH for your own images.")
        if ":" in where:
            raise ConfigError(_no_kind(where))
        return
    if kind not in OPTIONS:
        raise ConfigError(_no_kind(dataset))
    if not where.strip():
        raise ConfigError(f"{dataset} names nothing. Write {kind}: and {WHERE[kind]}.")
    if asked:
        check_options(kind, where, asked, dataset)
    if place_of(dataset) != {"kind": kind, "where": where, "asked": asked}:
        raise ConfigError(f"{dataset}: its path reads as options from a ? on. Rename the file or folder with the ? in its name.")


def _no_kind(dataset: str) -> str:
    kind, _, rest = dataset.partition(":")
    if rest.startswith("//"):  # may hold a password
        return f"{kind}:// is an address, and images are read from disks. Write folder:PATH, table:PATH or hf:NAME."
    if rest.isdecimal():
        return f"{dataset}: a fold stands behind its split protocol. Write {kind}@{OFFICIAL}:{int(rest[-9:])}."
    first = nearest(kind.lower(), list(OPTIONS)).partition(",")[0]
    return f"{dataset}: {kind!r} is no kind of data. Choose from {nearest(kind.lower(), list(OPTIONS))}. Write {first}:{rest or 'PATH'}."


def check_options(kind: str, where: str, asked: str, dataset: str) -> None:
    """Raise ConfigError for an option that its kind does not have, one without a value, or with two."""
    known = list(OPTIONS[kind])
    pairs = list(dict.fromkeys(parse_qsl(asked, keep_blank_values=True)))
    for option, value in pairs:
        if len(given := [v for o, v in pairs if o == option]) > 1:
            raise ConfigError(
                f"{dataset}: {option} is given twice, {' and '.join(given)}. Keep one. Write "
                f"{kind}:{where}?{option}={quote(given[0], safe='/')}."
            )
        near = nearest(option, known)
        if option not in known and not value and f"{option}=" not in asked:
            raise ConfigError(
                f"{dataset}: {option!r} is not NAME=VALUE. Write {kind}:{where}?label={option}, with one of {near} before the =."
            )
        if option not in known:
            taken = {name for name in known if f"{name}=" in asked}
            taken |= {"label", "labels"} if taken & {"label", "labels"} else set()
            free = nearest(option, [name for name in known if name not in taken] or known).partition(",")[0]
            right = f"{kind}:{where}?{asked.replace(f'{option}=', f'{free}=', 1)}"
            raise ConfigError(f"{dataset}: {kind} data have no option {option!r}. Choose from {near}. Write {right}.")
        if not value:
            raise ConfigError(f"{dataset}: {option} is empty. Give a name, or leave it out. Write {kind}:{where}?{option}=NAME.")
    _check_seen(dict(pairs), dataset, f"{kind}:{where}")


def _check_seen(options: dict[str, str], dataset: str, place: str) -> None:
    """Raise ConfigError for an impossible value of tiles, pool or ordered; `place`: the data without options."""
    if "tiles" in options:
        tiles_of(options["tiles"], dataset, place)
    pool = options.get("pool", "mean")
    if pool not in POOLS or ("pool" in options and "tiles" not in options):
        why = "there are no tiles to pool" if pool in POOLS else f"pool must be mean or max of the tiles' probabilities, not {pool!r}"
        raise ConfigError(f"{dataset}: {why}. Write {place}?tiles={options.get('tiles', '1x3')}&pool={pool if pool in POOLS else 'max'}.")
    names = listed(options["ordered"]) if "ordered" in options else ["a", "b"]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(
            f"{dataset}: ordered names every class once, from the lowest to the highest. Write {place}?ordered=mild,moderate,severe."
        )


def tiles_of(text: str, dataset: str, place: str = "") -> tuple[int, int]:
    """Return (rows, columns) of "1x3". Raises ConfigError naming the data set."""
    found = re.fullmatch(r"([1-9][0-9]{0,3})[xX]([1-9][0-9]{0,3})", text)
    if found is None or max(int(found[1]), int(found[2])) > MOST_TILES:
        raise ConfigError(f"{dataset}: tiles are ROWSxCOLUMNS, 1 to {MOST_TILES} each, not {text[:40]!r}. Write {place}?tiles=1x3.")
    return int(found[1]), int(found[2])


def listed(text: str) -> list[str]:
    """Return the names that are joined by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def check_splits(dataset: str, own: bool, protocol: str, fold: int | None, shift: int) -> None:
    """Raise ConfigError for a protocol that the data set cannot have, a fold before the first, or a shift without a fold."""
    if own and protocol != OFFICIAL:
        given = "" if fold is None else f":{fold}"
        right = f"{dataset}@{OFFICIAL}{given}" if given or OWN_SPLITS.fullmatch(dataset) else dataset
        raise ConfigError(f"{dataset} has one split protocol, {OFFICIAL}, with folds 0..4. Not {f'{protocol}{given}'!r}. Write {right}.")
    if not PROTOCOL.fullmatch(protocol):
        near = next(iter(PROTOCOL.findall(protocol)), OFFICIAL)
        raise ConfigError(f"{dataset}: {protocol!r} cannot be the name of a split protocol. Write {dataset}@{near}.")
    if fold is not None and fold < 0:
        raise ConfigError(f"{dataset}@{protocol}:{fold}: the fold must be 0 or more. Write {dataset}@{protocol}:0.")
    if shift < 0 or (shift and fold is None):
        raise ConfigError(
            f"{dataset}@{protocol}: a shift of the validation split is 0 or more and stands behind a fold. Write {dataset}@{protocol}:0+1."
        )


def check_path(kind: str, where: str, dataset: str) -> None:
    """Raise ConfigError where no file is at `where`, and it ends in what looks like options or splits."""
    if os.path.exists(where):
        return
    place, mark, tail = where.rpartition("?")
    if mark and OPTIONS[kind]:
        check_options(kind, place, tail, dataset)
        raise ConfigError(f"{dataset}: behind the ? is no option. Write {kind}:{place}.")
    place, mark, tail = where.rpartition("@")
    if mark and os.path.exists(place) and re.fullmatch(r"[A-Za-z_]+(:[0-9]+)?", tail):
        fold = tail.partition(":")[2]
        raise ConfigError(
            f"{dataset}: {tail!r} is no split protocol of your own images, which have {OFFICIAL} alone. "
            f"Write {kind}:{place}{f'@{OFFICIAL}:{int(fold[-9:])}' if fold else ''}."
        )
