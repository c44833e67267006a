"""A table of labels: `table:labels.csv` (.tsv, .jsonl, .parquet), one row an image: its file, its label, and perhaps split, group,
weight.

Columns are found by name (NAMES) or given: `table:labels.csv?image=file&label=species&group=plant`.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from study.console.text import shown
from study.datasets.archives import read_unpacked
from study.datasets.called import missing
from study.datasets.folder import beside, check_path, display_path
from study.datasets.ids import as_id, check_ids, names_in, unread_names
from study.datasets.imagefiles import no_image
from study.datasets.roles import roles_said
from study.datasets.several import JOINED, join_labels
from study.datasets.shapes import check_header, check_measured, delimiter_said, one_hot, why_no_label
from study.datasets.spec import SPLIT_NAMES, ImageTable, left_out, some
from study.datasets.tables import BOUNDS, LIMITS, Count, check_length, read_rows
from study.datasets.user_table import NO_FILE, NO_LABEL, NO_SPLIT, Found, Ignored, found_file, make_table, without_twins
from study.datasets.whereabouts import Locate, as_named, by_what_is_left, why_none
from study.errors import ConfigError, DataError, nearest
from study.question.name_parts import COLUMNS, listed
from study.question.naming import DataName

NAMES = {
    "image": (
        "image",
        "file",
        "filename",
        "file_name",
        "path",
        "filepath",
        "file_path",
        "image_path",
        "image_file",
        "image_name",
        "img",
        "image_id",
        "photo",
        "picture",
    ),
    "label": ("label", "class", "species", "target", "category", "labels", "class_id", "label_id", "y"),
    "split": ("split", "set", "subset", "usage", "partition"),
    "group": ("group", "group_id", "patient", "patient_id", "subject", "subject_id", "plant", "session", "groups"),
    "weight": ("weight", "sample_weight"),
    "names": ("label_name", "class_name", "label_names", "class_names"),
}
"""Names of columns by role, the surest first; case and surrounding blanks do not matter."""
FILES_OF_NAMES = ("classes.csv", "classes.txt", "classes.json")
"""Files beside a table that are read for the names of class ids."""
KINDS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON lines", ".parquet": "Parquet"}


class Other(str):
    """The text of a value that is neither text nor number."""

    kind: str  # what it is: "a list of 2"

    @classmethod
    def of(cls, value: Any) -> "Other":
        text = cls("" if isinstance(value, bytes) else json.dumps(value, default=str, ensure_ascii=False))
        text.kind = (
            f"a list of {len(value)}" if isinstance(value, list) else "bytes or an object" if isinstance(value, bytes) else "an object"
        )
        return text


Row = tuple[str, dict[str, str]]  # where it is ("labels.csv:17"), stripped text by column


def read(data: DataName, fold: int) -> ImageTable:
    """Read the table. Raises DataError where it cannot be read or none of its images exists, ConfigError for missing columns."""
    name, path = data.dataset, Path(data.where)
    check_path(path, "table")
    if path.is_dir():
        raise DataError(f"{name}: {path} is a folder. Give a table in it ({', '.join(KINDS)}), or folder:{path} for class folders.")
    header, rows = rows_of(path)
    if "labels" in data.options:
        return _read_several(header, rows, path, data, fold)
    column, kept, ignored, notes = usable_rows(header, rows, path, data)
    if column["label"] in (columns := one_hot(header, rows, column["image"])) and len(columns) > 2:
        notes.append(f"label {column['label']} is one of {len(columns)} columns with one 1 a row, a class each")
    usable = without_twins(kept, ignored)
    raw = {one.label for one in usable}
    check_measured([one.label for one in usable], f"{path}, column {column['label']}")
    listed = {label for _, row in rows if not missing(label := row.get(column["label"], ""))} - raw
    check_ids(raw, str(path))
    names = _names_of(rows, column, raw, path, data.options.get("names"))
    order = sorted(raw, key=lambda c: (int(c), c)) if all(_whole(c) for c in raw) else sorted(raw)
    called = [names.get(c, c) for c in order]
    if twice := [c for c in called if called.count(c) > 1]:
        raise DataError(f"{path}: two classes are called {shown(twice[0])!r}. Give each a name of its own.")
    usable = [Found(**{**vars(one), "label": names.get(one.label, one.label)}) for one in usable]
    notes = [*roles_said(header, column, NAMES), *notes, *([] if names else unread_names(path, raw, FILES_OF_NAMES))]
    return make_table(name, "table", usable, ignored, where=str(path), classes=called, notes=notes, listed=listed, fold=fold)


def _read_several(header: list[str], rows: list[Row], path: Path, data: DataName, fold: int) -> ImageTable:
    """Return a table in which an image may have several labels. Raises ConfigError and DataError as `read` does."""
    if "label" in data.options:
        raise ConfigError(f"{data.dataset}: label is of images that have one, labels of those that have several. Leave one of them out.")
    rows, order, note = join_labels(header, rows, data.options["labels"], path)
    own = data.given(label=JOINED)
    column, kept, ignored, notes = usable_rows([*header, JOINED], rows, path, own)
    usable = without_twins(kept, ignored)
    used = {*listed(data.options["labels"])}
    said = roles_said(
        [h for h in header if h not in used], {what: c for what, c in column.items() if what not in ("label", "names")}, NAMES
    )
    told = [*said, note, *notes]
    return make_table(data.dataset, "table", usable, ignored, where=str(path), classes=order or None, notes=told, several=True, fold=fold)


def usable_rows(header: list[str], rows: list[Row], path: Path, data: DataName) -> tuple[dict[str, str], list[Found], Ignored, list[str]]:
    """Return the columns by role, the usable rows, the others, and sentences about them.

    Raises DataError where no row is usable, ConfigError for missing columns.
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        known = any(h.lower() in names for names in NAMES.values() for h in header) or "image" in data.options
        check_header(path, header, (lambda _: None) if known else as_named(path, data.options.get("images")))
    column = find_columns(header, data.options, data.dataset, rows, path)
    for role, called in column.items():
        _check_plain(rows, called, role)
    return column, *_kept(rows, column, path, data)


def _check_plain(rows: list[Row], column: str, role: str) -> None:
    """Raise DataError where a column that is used holds other values than texts and numbers: the text of a list is no class's name."""
    if wrong := next(((where, value) for where, row in rows if isinstance(value := row.get(column), Other)), None):
        where, value = wrong
        raise DataError(
            f"{where}: {role} (column {column}) is {value.kind}{', ' * bool(value)}{shown(value[:60])}. It must be one text or "
            "number: write it into a column of its own"
            + (", and where an image has several classes choose one." if role == "label" and value.kind.startswith("a list") else ".")
        )


def _kept(rows: list[Row], column: dict[str, str], path: Path, data: DataName) -> tuple[list[Found], Ignored, list[str]]:
    """Return the usable rows, the others, and sentences about them. Raises DataError where no row is usable."""
    images, ignored = data.options.get("images"), Ignored()
    if kept := list(_found(rows, column, as_named(path, images), path, ignored)):
        return kept, ignored, []
    gone = list(dict.fromkeys(image for image, why in ignored if why == NO_FILE))
    if not gone:
        raise DataError(f"{path}: no row has both an image and a label{left_out(ignored)}. Fill them in, or name other columns.")
    if images and (found := by_what_is_left(gone, path.parent / images)):
        ignored = Ignored()
        kept = list(_found(rows, column, found.get, path, ignored))
        return kept, ignored, [f"files in {images} by what is left of their names"]
    raise DataError(f"{path}: {why_none(path, gone, data)}.")


def rows_of(path: Path, what: str = "a table of labels") -> tuple[list[str], list[Row]]:
    """Return column names, and every row as text. `what`: what is needed, in words. Raises DataError."""
    kind = path.suffix.lower()
    if (more := re.fullmatch(r"(\.\w+)([@&#].*)", kind)) and more[1] in KINDS:
        known = (
            "its splits are @official, or a fold of them as @official:1"
            if more[2][0] == "@"
            else "options begin with ?, as in ?label=species"
        )
        raise DataError(f"{path}: what is {path.suffix[len(more[1]) :][:40]}? {known.capitalize()}.")
    if kind not in KINDS:
        raise DataError(f"{path}: {kind or 'no suffix'} is no table that is read. Save it as one of {', '.join(KINDS)}.")
    if not path.is_file():
        why = "is no regular file" if os.path.lexists(path) else f"does not exist{beside(path)}"
        raise DataError(f"table:{path} {why}. Give {what}.")
    header, rows = {".parquet": _parquet, ".jsonl": _json_lines}.get(kind, _separated)(path)
    if not rows:
        raise DataError(f"{path} holds no row. Give one an image.")
    return header, rows


def _separated(path: Path) -> tuple[list[str], list[Row]]:
    with open(path, "rb") as file:
        first = file.readline(100_000).decode("utf-8", "replace")
    said = delimiter_said(first)
    by = said or ("\t" if path.suffix.lower() == ".tsv" else next((d for d in ",;\t|" if d in first), ","))
    lines, _ = read_rows(path, by)
    lines = lines[1:] if said else lines
    header = [h.strip().lstrip("\ufeff") for h in lines[0][1]] if lines else []
    out = []
    for number, fields in lines[1:]:
        check_length(path, number, fields, len(header))
        out.append((f"{path}:{number}", {name: field.strip() for name, field in zip(header, fields, strict=True)}))
    return header, out


def _json_lines(path: Path) -> tuple[list[str], list[Row]]:
    out, header = [], dict[str, None]()
    count = Count(path)
    for number, line in enumerate(read_unpacked(path, LIMITS).splitlines(), 1):
        if not count.line(line).strip():
            continue
        try:
            values = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number} is not JSON ({str(error)[:80]}). One object a line is needed.") from None
        if not isinstance(values, dict):
            raise DataError(f"{path}:{number} is {type(values).__name__}, not an object. One object a line is needed.")
        count.row(len(values))
        header |= dict.fromkeys(values)
        out.append((f"{path}:{number}", {k: text_of(v) for k, v in values.items()}))
    return list(header), out


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose keys differ. Raises ValueError."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"a key twice: {', '.join(key for key, _ in pairs)[:60]}")
    return values


def _parquet(path: Path) -> tuple[list[str], list[Row]]:
    import pyarrow as pa

    from study.storage import parquet

    def is_image(kind: pa.DataType) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind))

    try:
        header, batches = parquet.batches(path, BOUNDS, lambda kind: not is_image(kind))
        rows = [row for batch in batches for row in batch.to_pylist()]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({str(error).splitlines()[0][:120]}). Get it again.") from None
    images = [name for name in header if rows and name not in rows[0]]
    if images and not set(NAMES["image"]) & {c.lower() for c in header if c not in images}:
        raise DataError(
            f"{path} holds images themselves (column {images[0]}), not their files. Give it as hf:{path}, or where it holds paths "
            "alone write them into a column of texts."
        )
    others = {name: Other.of(b"?") for name in images}
    return header, [(f"{path}:row {k + 1}", {n: text_of(v) for n, v in row.items()} | others) for k, row in enumerate(rows)]


def text_of(value: Any) -> str:
    """Return the value as a CSV would hold it: empty where it is missing, whole numbers without a decimal point."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list) and len(value) == 1:
        return text_of(value[0])
    if isinstance(value, list | dict | bytes):
        return Other.of(value) if value else ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def find_columns(
    header: list[str],
    given: dict[str, str],
    name: str,
    rows: Sequence[Row] = (),
    path: Path | None = None,
) -> dict[str, str]:
    """Return the table's column for each role of NAMES that it has; y beside an x is a position, no label.

    Raises ConfigError where image or label has no column, or a given column does not exist. Raises DataError where a column exists twice,
    or the rows show that the table has another shape.
    """
    lower = {h.strip().lower(): h for h in reversed(header)}
    column = {}
    for what, names in NAMES.items():
        wanted = given.get(what)
        if wanted is None:
            if (found := next((lower[n] for n in names if n in lower and not (n == "y" and "x" in lower)), None)) is not None:
                column[what] = found
        elif wanted in header or wanted.lower() in lower:
            column[what] = wanted if wanted in header else lower[wanted.lower()]
        elif what in COLUMNS:
            raise ConfigError(f"{name}: the table has no column {wanted!r}. Choose from {nearest(wanted, header)}.")
    if missing := [what for what in ("image", "label") if what not in column]:
        if path is not None and (shape := why_no_label(path, header, rows, column.get("image", ""))):
            raise DataError(f"{shape}.")
        raise ConfigError(
            f"{name}: which column is the {missing[0]}? The table has {shown(', '.join(header)[:200])}. Say it: {_with(name, missing[0])}."
        )
    for taken in column.values():
        same = [h for h in header if h.strip().lower() == taken.strip().lower()]
        if len(same) > 1 and (same.count(taken) > 1 or taken not in given.values()):
            raise DataError(f"{name}: the header has the column {taken!r} twice ({', '.join(same)}). Keep one, or rename the other.")
    if column["image"] == column["label"]:
        raise ConfigError(
            f"{name}: image and label are the same column, {column['label']!r}. Say which is which: {_with(name, 'image', 'label')}."
        )
    return column


def _with(name: str, *roles: str) -> str:
    """Return how to name columns, beside those given already."""
    if ":" not in name:  # a table that Python holds
        return "columns={" + ", ".join(f'"{role}": "COLUMN"' for role in roles) + "}"
    return DataName.of(name).given(**dict.fromkeys(roles, "COLUMN")).dataset


def _found(rows: list[Row], column: dict[str, str], locate: Locate, table: Path, ignored: Ignored) -> Iterator[Found]:
    """Yield every row with an existing image, a label and, where there is such a column, a split; the rest is ignored by name."""
    for where, row in rows:
        listed, label = row.get(column["image"], ""), row.get(column["label"], "")
        if not listed or missing(label):
            ignored.append((listed or where, NO_LABEL if listed else "no image named"))
            continue
        file = locate(listed)
        if file is None:
            ignored.append((listed, NO_FILE))
        elif (reason := no_image(file.name)) is not None:
            ignored.append((listed, reason))
        else:
            split = row.get(column["split"], "") if "split" in column else None
            if split == "":
                ignored.append((listed, NO_SPLIT))
                continue
            yield found_file(
                file,
                id=display_path(file, table.parent) if file.is_relative_to(table.parent) else display_path(file, Path(file.anchor)),
                label=label,
                split=None if split is None else split_number(split, where),
                group=group_of(row.get(column["group"], "")) if "group" in column else None,
                weight=weight_of(row.get(column["weight"], ""), where) if "weight" in column else None,
            )


def split_number(text: str, where: str) -> int:
    """Return the number of a split. Raises DataError for a word that is no split."""
    number = SPLIT_NAMES.get(text.strip().lower())
    if number is None:
        raise DataError(f"{where}: split is {text[:40]!r}. It must be train, val or test (or leave it empty: the row is left out).")
    return number


def group_of(text: str) -> str | None:
    """Return a group's name: "1.0" and 1 are one group, and a missing value is None. Raises DataError for a value that is no text."""
    if isinstance(text, Other):
        raise DataError(f"group is {text.kind}, {shown(text[:60])}. It must be one text or number: write it into a column of its own.")
    return None if missing(text) else as_id(text)


def weight_of(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value < math.inf):
        raise DataError(f"{where}: weight is {text[:40]!r}. It must be a number >= 0.")
    return value


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _names_of(rows: list[Row], column: dict[str, str], raw: set[str], table: Path, given: str | None) -> dict[str, str]:
    """Return names of class ids: from a column beside the label, or a file (`datasets.ids`). Raises DataError for names that do not
    fit."""
    if "names" in column and column["names"] != column["label"]:
        found: dict[str, str] = {}
        for where, row in rows:
            label, called = row.get(column["label"], ""), row.get(column["names"], "")
            if label and called and found.setdefault(label, called) != called:
                raise DataError(f"{where}: class {label} is called {called[:40]!r} here and {found[label][:40]!r} above. Keep one name.")
        if unnamed := sorted(raw - set(found)):
            raise DataError(
                f"{table}: the column {column['names']} has no name of class {some(unnamed)}. Fill it in, or name another with ?names=."
            )
        return found
    places = [table.parent / given] if given else [table.parent / n for n in FILES_OF_NAMES]
    file = next((p for p in places if p.is_file() and p != table), None)
    if file is None:
        if given:
            raise ConfigError(f"names={given}: neither a column of {table} nor a file beside it. Give one of them.")
        return {}
    return names_in(file, raw)
