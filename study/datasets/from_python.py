"""Data held in Python (a DataFrame, a torchvision or other map-style data set), written once to files that every process can read.

from study import grid, own_dataset
birds = own_dataset({"train": torchvision.datasets.ImageFolder("train"), "test": torchvision.datasets.ImageFolder("test")}, name="birds")
cells = grid([birds], ["efficientnet_lite0"], ["linear_probe", "full"])
"""

import csv
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from study.console.text import brief
from study.datasets.cache import cache_folder, kept_in
from study.datasets.called import missing
from study.datasets.manifest import NAMES, find_columns, split_number
from study.datasets.no_images import way_out
from study.datasets.spec import some
from study.datasets.wrapped import as_its_file, classes_of, in_order
from study.errors import ConfigError, DataError
from study.inference import pictures
from study.question.naming import DataName
from study.storage.folder import make_private

HEADER = ("file", "label", "split", "group", "weight")
ROUNDED = 1e-5  # beyond [0, 1]: what arithmetic in single precision leaves
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}")

Row = tuple[Any, str, str, str, str]  # picture, then label, split, group, weight as text


def own_dataset(
    data: Any,
    *,
    name: str = "own",
    classes: Sequence[str] | Mapping[Any, Any] | None = None,
    groups: Sequence[Any] | None = None,
    columns: Mapping[str, str] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> str:
    """Return the name by which a study knows these images, as `grid` and `Cell` take it: table:FOLDER/NAME-HASH/labels.csv.

    `data` is one of three: a pandas DataFrame with one row for each image (its file, a PIL image or an array, its label, and perhaps
    split, group, weight; `columns` names them where their names do not); a data set with `len` and `[k]` whose items are (image, label)
    or mappings with these keys; or a mapping from train, val and test to such frames or data sets.

    Labels are names, whole numbers, or one-hot. Images are PIL images, or arrays or tensors [H, W], [H, W, C] or [C, H, W], of uint8 or
    of floats in [0, 1]. `classes`: names of whole-number labels, in order or by number (default: the data set's own `classes`). `groups`:
    one for each image of one data set; no group lies in two splits. `folder`: where the files are made, in the cache by default; workers
    on other machines must see it. The hash is of the contents: equal images get the same name again, other images another one.

    Raises ConfigError for other kinds of data, DataError for an item that is no image, or that changes each time it is read.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"name {name!r} must match {NAME.pattern} (it names a folder).")
    rows = _of_frame(data, columns or {}) if _is_frame(data) else _of_datasets(data, classes, groups, columns or {})
    root = Path(folder) if folder is not None else cache_folder() / "given"
    with kept_in(root, "give another folder" if folder is not None else "set STUDY_CACHE to another folder"):
        make_private(str(root))
        making = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
        try:
            target = root.absolute() / f"{name}-{_write(rows, making)}"
            if not (target / "labels.csv").is_file():
                try:
                    os.replace(making, target)
                except OSError:
                    if not (target / "labels.csv").is_file():  # else another process was first, with the same contents
                        raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return DataName(kind="table", where=f"{target}/labels.csv").dataset


def _write(rows: Iterable[Row], folder: Path) -> str:
    """Write the images and labels.csv; return the hash of their contents."""
    digest, lines = hashlib.sha256(), []
    (folder / "images").mkdir()
    for k, (picture, *rest) in enumerate(rows):
        if isinstance(picture, str | os.PathLike):
            file = os.path.abspath(os.fspath(picture))
            mark = file.encode("utf-8", "surrogateescape")
        else:
            image = as_image(picture, k)
            mark = repr((image.mode, image.size)).encode() + image.tobytes()
            file = f"images/{k:06d}.png"
            image.save(folder / file, compress_level=1)
        digest.update(hashlib.sha256(mark).digest() + "\0".join(rest).encode("utf-8", "surrogateescape") + b"\0")
        lines.append((file, *rest))
    if not lines:
        raise DataError("own_dataset: no images were given.")
    used = [k for k in range(len(HEADER)) if k < 2 or any(line[k] for line in lines)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[row[k] for k in used] for row in [HEADER, *lines]])
    (folder / "labels.csv").write_text(text.getvalue(), "utf-8", "backslashreplace")
    return digest.hexdigest()[:16]


def as_image(picture: Any, k: int) -> Image.Image:
    """Return a PIL image of 8 bit from the value given for image `k`. Raises DataError."""
    if isinstance(picture, Image.Image):
        try:
            return pictures.held(picture)
        except ValueError as error:
            raise DataError(f"image {k}: {error}; {way_out(str(error)).way_out}.") from None
    if isinstance(picture, bytes):
        raise DataError(f"image {k} is bytes. Give the image they hold, PIL.Image.open(io.BytesIO(...)).")
    array = _array(picture, k)
    given = f"{array.dtype} {list(array.shape)}"
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and (hasattr(picture, "detach") or array.shape[-1] not in (1, 3, 4)):
        array = np.moveaxis(array, 0, -1)  # channels first
    if array.dtype.kind == "f":
        array = _of_floats(array, k)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)) or not array.size:
        raise DataError(
            f"image {k} is {given}. It must be a PIL image, or an array or tensor [H, W], or with 1, 3 or 4 channels first or last, "
            "of uint8 or of floats in [0, 1]."
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _array(picture: Any, k: int) -> np.ndarray:
    """Return the picture as an array. Raises DataError where it is masked in part, or NumPy cannot make an array of it."""
    if np.ma.is_masked(picture):
        raise DataError(f"image {k} is masked in part, and nothing says how that is to be seen. Give it filled: picture.filled(255).")
    if hasattr(picture, "detach"):
        try:
            tensor = picture.detach().cpu()
            return np.asarray(tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor)  # NumPy has none
        except (TypeError, ValueError, RuntimeError):  # sparse, quantized, of no device, of eight bits
            what = f"{picture.dtype}, {picture.layout}, on {picture.device}"
            raise DataError(f"image {k} is a tensor that NumPy cannot hold ({what}). Give uint8 or float32, dense.") from None
    return np.asarray(picture)


def _of_floats(array: np.ndarray, k: int) -> np.ndarray:
    """Return uint8, with 1 as white. Raises DataError for numbers beyond [0, 1] by more than rounding errors."""
    if not np.isfinite(array).all():
        raise DataError(
            f"image {k} holds numbers that are not finite ({int((~np.isfinite(array)).sum())} of {array.size}). Mend or leave it out."
        )
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if low < -ROUNDED or high > 1 + ROUNDED:
        raise DataError(
            f"image {k} holds floats from {low:.7g} to {high:.7g}, not in [0, 1]. Give it without normalisation, or clipped where "
            "resizing went beyond."
        )
    clipped: np.ndarray = np.round(np.clip(array, 0, 1) * 255).astype(np.uint8)
    return clipped


def _is_frame(data: Any) -> bool:
    return hasattr(data, "columns") and hasattr(data, "iloc")


def as_one(label: Any, k: int) -> Any:
    """Return the label of image `k` from a list, an array or a tensor: the one number it holds, or the class of a one-hot one.

    Raises DataError for a value that does not name one class.
    """
    if isinstance(label, Mapping | set | frozenset | bytes | bytearray):
        raise DataError(f"own_dataset: the label of image {k} is {brief(label)}. It must be one class: its name or a whole number.")
    if isinstance(label, str | bytes) or not (hasattr(label, "__len__") or np.ndim(label)):
        return label
    values = np.asarray(label.detach().cpu() if hasattr(label, "detach") else label)
    if values.size == 1:
        return values.reshape(-1)[0]
    if values.ndim == 1 and values.dtype.kind in "biuf" and ((values == 0) | (values == 1)).all() and values.sum() == 1:
        return int(values.argmax())
    raise DataError(
        f"own_dataset: the label of image {k} is {brief(values.tolist())}. It must be one class: its name, a whole number, or "
        "one-hot (a single 1, else 0). Shares of classes and several classes an image are not trained on."
    )


def _of_frame(frame: Any, columns: Mapping[str, str], split_of_all: str = "") -> Iterator[Row]:
    """Yield the frame's rows. `split_of_all`: the split, where the frame is one of several."""
    header = [str(c) for c in frame.columns]
    if unknown := [c for c in columns if c not in NAMES]:
        raise ConfigError(f"own_dataset: columns has no {unknown[0]!r}. Choose from {', '.join(NAMES)}.")
    column = find_columns(header, dict(columns), "own_dataset")
    if split_of_all and "split" in column:
        raise ConfigError(
            f"own_dataset: the frame of {split_of_all} has a column of splits, {column['split']!r}, too. Give one frame, or drop "
            "the column."
        )
    names = (
        dict(zip((_text(as_one(v, k)) for k, v in enumerate(frame[column["label"]])), map(_text, frame[column["names"]]), strict=True))
        if "names" in column
        else {}
    )
    for k in range(len(frame)):
        row = frame.iloc[k]
        label = _text(as_one(row[column["label"]], k))
        split, group, weight = (_text(row[column[what]]) if what in column else "" for what in ("split", "group", "weight"))
        yield row[column["image"]], names.get(label) or label, split_of_all or split, group, weight


def _text(value: Any) -> str:
    """Return the value as text: empty where it is missing; whole numbers without a decimal point."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)) or missing(str(value)):
        return ""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def _of_datasets(
    data: Any, classes: Sequence[str] | Mapping[Any, Any] | None, groups: Sequence[Any] | None, columns: Mapping[str, str]
) -> Iterator[Row]:
    parts = dict(data.items()) if isinstance(data, Mapping) else {"": data}
    for split, part in parts.items():
        if not _is_frame(part) and not hasattr(part, "__len__") or not hasattr(part, "__getitem__"):
            raise ConfigError(f"own_dataset: {type(part).__name__} has no len or no [k]. Give a DataFrame or a map-style data set.")
        if split:
            split_number(str(split), "own_dataset")
        if groups is not None and (len(parts) > 1 or len(groups) != len(part)):
            raise ConfigError(
                f"own_dataset: {len(groups)} groups for {len(part)} images of {len(parts)} split(s). Give one a image, of one."
            )
        if _is_frame(part):
            yield from _of_frame(part, columns, str(split))
            continue
        called = _namer(part, classes)
        for k in range(len(part)):
            picture, label = _item(part[k], k)
            if k == 0:
                _check_steady(picture, part)
            yield as_its_file(picture, part, k), called(as_one(label, k)), str(split), "" if groups is None else _text(groups[k]), ""


def _item(item: Any, k: int) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        lower = {str(key).lower(): key for key in item}
        found = [next((item[lower[n]] for n in NAMES[what] if n in lower), None) for what in ("image", "label")]
        if any(v is None for v in found):
            raise ConfigError(f"own_dataset: item {k} has {', '.join(map(str, item))}. It must have an image and a label.")
        return found[0], found[1]
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise ConfigError(f"own_dataset: item {k} is {type(item).__name__}. It must be (image, label), or a mapping with both.")
    return item[0], item[1]


def _check_steady(picture: Any, part: Any) -> None:
    """Raise DataError where a second read gives another picture: training augments by itself, and tests must not be random."""
    if isinstance(picture, str | os.PathLike):
        return
    again, first = as_image(_item(part[0], 0)[0], 0), as_image(picture, 0)
    if first.size != again.size or first.tobytes() != again.tobytes():
        raise DataError("own_dataset: item 0 is another image each time. Give the data set without random transforms.")


def _namer(part: Any, classes: Sequence[str] | Mapping[Any, Any] | None) -> Callable[[Any], str]:
    """Return a function from a label to its name: whole numbers by `classes`, the data set's own, or a Hugging Face label's names."""
    features = getattr(part, "features", None)
    own = (
        next((getattr(features[c], "names", None) for c in NAMES["label"] if c in features), None)
        if isinstance(features, Mapping)
        else None
    )
    known = classes if classes is not None else classes_of(part) or own
    names = None if known is None else in_order(known)

    def called(label: Any) -> str:
        value = label.item() if hasattr(label, "item") else label
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if names is None or isinstance(value, bool) or not isinstance(value, int):
            text = _text(value)
            if names is not None and text and text not in names:
                raise DataError(
                    f"own_dataset: label {text[:40]!r} is none of the {len(names)} classes ({some(names, 5)}). Correct one of them."
                )
            return text
        if not 0 <= value < len(names):
            raise DataError(f"own_dataset: label {value} has no name. There are {len(names)} classes.")
        return names[value]

    return called
