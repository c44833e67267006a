"""A data set of Hugging Face's `datasets`, `hf:NAME_OR_FOLDER`: a name on the hub or in its cache, or a folder.

The folder holds images, Parquet or WebDataset files, or the output of `save_to_disk`. Images are taken as files and bytes and decoded by
us, with the same limits and formats as everywhere.
"""

import functools
import hashlib
import os
from pathlib import Path
from typing import Any

from study.datasets.cache import cache_folder
from study.datasets.called import missing
from study.datasets.imagefiles import identity
from study.datasets.manifest import NAMES, group_of, split_number, text_of, weight_of
from study.datasets.roles import roles_said
from study.datasets.several import joined
from study.datasets.spec import SPLIT_NAMES, ImageTable, some
from study.datasets.user_table import NO_LABEL, Found, Ignored, found_file, make_table
from study.errors import ConfigError, DataError, EnvironmentProblem, nearest
from study.question.name_parts import COLUMNS
from study.question.naming import DataName

MODULES = {".parquet": "parquet", ".tar": "webdataset", ".arrow": "arrow"}  # of single files


def read(data: DataName, fold: int) -> ImageTable:
    """Read the data set.

    Raises EnvironmentProblem without the package, DataError where it cannot be loaded, ConfigError for missing columns.
    """
    name, parts, ignored = data.dataset, _load(data), Ignored()
    several, given_columns = "labels" in data.options, _asked(data)
    known = {split: number for split in parts if (number := SPLIT_NAMES.get(split.lower())) is not None}
    if not known:
        raise DataError(f"{name} has the splits {some(list(parts))}, of which none is train, validation or test. Rename one to train.")
    ignored += [(f"split {split}", "is none of train, validation, test") for split in parts if split not in known]
    found: list[Found] = []
    order: dict[str, None] = {}
    notes: dict[str, None] = {}
    for split, number in known.items():
        column = _columns(parts[split], given_columns, name)
        given = {} if len(known) == 1 else {"split": "of the data set"}
        notes |= dict.fromkeys(roles_said(parts[split].features, given | column, NAMES))
        found += _found(parts[split], split, number if len(known) > 1 else None, given_columns, name, ignored, order, several)
    if not found:
        raise DataError(f"{name}: no row has an image and a label.")
    return make_table(name, "hf", found, ignored, where=name, classes=list(order) or None, notes=list(notes), several=several, fold=fold)


def _asked(data: DataName) -> dict[str, str]:
    """Return the columns that the name gives, by role; several labels stand where one does. Raises ConfigError for both."""
    found = {what: c for what, c in data.options.items() if what in COLUMNS}
    if "labels" in data.options:
        if "label" in found:
            raise ConfigError(
                f"{data.dataset}: label is of images that have one, labels of those that have several. Leave one of them out."
            )
        found["label"] = data.options["labels"]
    return found


def _load(data: DataName) -> dict[str, Any]:
    """Return its splits by name, each a map-style `datasets.Dataset`."""
    name, where, config = data.dataset, data.where, data.options.get("config")
    try:
        import datasets
    except ImportError:
        raise EnvironmentProblem(f"{name} needs the package datasets: pip install finetune-study[data].") from None
    path = Path(where)
    local = {"cache_dir": str(cache_folder() / "hf")}  # what is made of folders here lies with our own caches; the hub's stays where it is
    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            loaded: Any = datasets.load_from_disk(where)
        elif path.is_file():
            if path.suffix not in MODULES:
                raise DataError(
                    f"{name}: {path.suffix or 'no suffix'} is no file that is read here. Give one of {', '.join(MODULES)}, or a folder."
                )
            loaded = datasets.load_dataset(MODULES[path.suffix], data_files=where, **local)
        else:
            loaded = datasets.load_dataset(where, config, **(local if path.is_dir() else {}))
    except DataError:
        raise
    except Exception as error:  # its builders raise whatever they meet
        cause = error.__cause__ or error
        lines = str(cause).splitlines() or [""]
        raise DataError(
            f"{name} cannot be loaded ({type(cause).__name__}: {lines[0][:160]}). Give a folder, or a data set that is in the "
            "cache or can be reached."
        ) from None
    return dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}


def _found(
    rows: Any, split: str, number: int | None, given: dict[str, str], name: str, ignored: Ignored, order: dict[str, None], several: bool
) -> list[Found]:
    """Return its images in order; `order` gathers the names of classes in the data set's order."""
    column = _columns(rows, given, name)
    labels, names = _several(rows, column["label"], name) if several else _labels(rows, column["label"], name)
    order |= dict.fromkeys(names)
    extra = {what: rows[column[what]] for what in ("split", "group", "weight") if what in column}
    files, images = _paths(rows, column["image"]), _undecoded(rows.select_columns([column["image"]]), column["image"])
    mark = "|".join(identity(Path(f["filename"])) for f in rows.cache_files)
    ids = [os.path.basename(f) for f in files]
    unique = all(ids) and len(set(ids)) == len(ids)
    found = []
    for k, (file, label) in enumerate(zip(files, labels, strict=True)):
        called = f"{split}/{ids[k]}" if unique else f"{split}:{k}"
        if label is None:
            ignored.append((called, NO_LABEL))
            continue
        values: dict[str, Any] = {
            "id": called,
            "label": label,
            "split": split_number(str(extra["split"][k]), f"{name}, {called}") if "split" in extra else number,
            "group": group_of(text_of(extra["group"][k])) if "group" in extra else None,
            "weight": weight_of(text_of(extra["weight"][k]), f"{name}, {called}") if "weight" in extra else None,
        }
        if file and os.path.isabs(file) and os.path.isfile(file):
            found.append(found_file(Path(file), **values))
        else:
            source = functools.partial(_bytes, images, k, column["image"])
            own = f"{mark}|{split}|{k}" if mark else hashlib.sha256(source()).hexdigest()
            found.append(Found(source=source, identity=own, **values))
    return found


def _undecoded(images: Any, column: str) -> Any:
    """Return rows with a file's name and bytes, not a picture that was decoded without our limits."""
    import datasets

    return images.cast_column(column, datasets.Image(decode=False)) if isinstance(images.features[column], datasets.Image) else images


def _bytes(images: Any, row: int, column: str) -> bytes:
    """Return a row's bytes. Raises ValueError where there are none."""
    value = images[row][column]
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise ValueError("no image in this row")
    return data


def _columns(rows: Any, given: dict[str, str], name: str) -> dict[str, str]:
    """Return the column of each role: by type first (an Image, a ClassLabel), then by name."""
    import datasets

    kinds = rows.features
    if wrong := [c for c in given.values() if c.partition(".")[0] not in kinds]:
        raise ConfigError(f"{name} has no column {wrong[0]!r}. Choose from {nearest(wrong[0], list(kinds))}.")
    column = dict(given)
    typed = {"image": datasets.Image, "label": datasets.ClassLabel}
    for what in ("image", "label", "group", "weight"):
        if what not in column:
            by_type = [c for c, kind in kinds.items() if what in typed and isinstance(kind, typed[what])]
            named = [
                c for n in NAMES[what] for c in kinds if c.lower() == n and (c in by_type or what != "image" or _holds_bytes(kinds[c]))
            ]
            choices = [c for c in named if c in by_type] or by_type or named or (["cls"] if what == "label" and "cls" in kinds else [])
            choices = choices or [f"json.{n}" for n in NAMES["label"] if what == "label" and n in (kinds.get("json") or {})]
            if choices:
                column[what] = choices[0]
    if missing := [what for what in ("image", "label") if what not in column]:
        raise ConfigError(f"{name}: which column is the {missing[0]}? It has {', '.join(kinds)}. Say it with ?{missing[0]}=COLUMN.")
    return column


def _holds_bytes(kind: Any) -> bool:
    return (isinstance(kind, dict) and "bytes" in kind) or getattr(kind, "dtype", "") in ("binary", "large_binary")


def _labels(rows: Any, column: str, name: str) -> tuple[list[str | None], list[str]]:
    """Return the label of each row as a name, None where there is none, and all names in their order, as far as the data set has one."""
    top, _, below = column.partition(".")
    values = rows[top]
    if below:
        values = [(v or {}).get(below) for v in values]
    kind = rows.features[top]
    names = list(getattr(kind, "names", None) or []) if not below else []
    if names:
        named = [None if v is None or v < 0 else names[v] for v in values]
        return [None if n is None or missing(n) else n for n in named], names
    if wrong := [v for v in values if v is not None and not isinstance(v, str | int)]:
        raise ConfigError(
            f"{name}: {column} holds {type(wrong[0]).__name__}, and a label is a word or a whole number. Name another column."
        )
    texts = [None if v is None or missing(str(v)) else str(v).strip() for v in values]
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values if v is not None)
    return texts, sorted({t for t in texts if t is not None}, key=lambda t: (int(t) if whole else 0, t))


def _several(rows: Any, column: str, name: str) -> tuple[list[str | None], list[str]]:
    """Return the labels of each row as a text that `several.parsed` reads, and all names in their order.

    The column holds sequences of ClassLabel, of texts or of whole numbers. A row that is null has no label.
    """
    if column not in rows.features:
        raise ConfigError(f"{name}: labels must name one column, not {column!r}. Choose from {nearest(column, list(rows.features))}.")
    kind = rows.features[column]
    names = list(getattr(getattr(kind, "feature", None), "names", None) or [])
    values = rows[column]
    if wrong := next((v for v in values if v is not None and not isinstance(v, list)), None):
        held = type(wrong).__name__
        raise ConfigError(f"{name}: {column} holds {held}, not a list of labels in each row. Of images with one label say label={column}.")
    named = [[names[v] if names else str(v).strip() for v in (value or []) if v is not None] for value in values]
    return [joined([n for n in own if not missing(n)]) for own in named], names


def _paths(rows: Any, column: str) -> list[str]:
    """Return the origin of each image, where it is known: a file here, or a name in an archive."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = rows.data.column(column)
    try:
        return [p or "" for chunk in values.chunks for p in pc.struct_field(chunk, "path").to_pylist()]
    except (pa.ArrowException, TypeError):  # plain bytes have no path
        return [""] * len(rows)
