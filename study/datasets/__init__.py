"""The data sets. To add one of a known format, write an entry here; for a new format also a file. Tests in tests/ check it."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from study.console.text import shown
from study.datasets import deepweeds, digits, fer2013, folder, huggingface, manifest, miniatures
from study.datasets.as_asked import as_asked
from study.datasets.instead import instead_of
from study.datasets.layout import NotByClass
from study.datasets.spec import FOLDS, SHIFTS, SPLITS, DatasetSpec, ImageTable, subsample
from study.errors import ConfigError, DataError, nearest
from study.question.naming import DataName

CATALOG: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="fer2013",
            title="FER2013",
            about="35,887 grey faces, 48 px, 7 expressions",
            policy="mild",
            where="ROOT/fer2013/fer2013.csv (or icml_face_data.csv, train/<class>/*.jpg, FERPlus folders; also .gz .bz2 .xz)",
            split_protocols=("official", "ferplus", "ferplus_votes"),
            read=fer2013.read,
        ),
        DatasetSpec(
            name="deepweeds",
            title="DeepWeeds",
            about="17,509 field photographs, 256 px, 8 weeds and others",
            policy="strong",
            where="ROOT/deepweeds/images/*.jpg and ROOT/deepweeds/labels/*.csv",
            split_protocols=("official", "session"),
            folds=5,
            read=deepweeds.read,
        ),
        DatasetSpec(
            name="mini_faces",
            title="Miniature faces",
            about="864 generated faces, 48 px, 7 expressions, FER2013's format",
            policy="mild",
            where="generated on first use",
            read=miniatures.read_faces,
        ),
        DatasetSpec(
            name="mini_weeds",
            title="Miniature weeds",
            about="766 generated leaves, 64 px, 9 species, DeepWeeds' format",
            policy="strong",
            where="generated on first use",
            split_protocols=("official", "session"),
            folds=5,
            read=miniatures.read_weeds,
        ),
        DatasetSpec(
            name="digits",
            title="Digits",
            about="1,797 real scans, 8 px, 10 digits, from scikit-learn",
            policy="mild",
            where="comes with scikit-learn",
            folds=5,
            read=digits.read,
        ),
    )
}


OWN: dict[str, Callable[[DataName, int], ImageTable]] = {"table": manifest.read, "hf": huggingface.read}
"""Readers of a user's own data other than folders, by kind."""


def open_dataset(name: str, *, splits: str = "official", root: Path | None = None) -> ImageTable:
    """Open a data set by name, or a user's own: `folder:PATH`, `table:PATH`, `hf:NAME_OR_FOLDER`.

    `splits` is one of its protocols, with ":k" for fold k, and ":k+s" for the same with another validation split, s = 0..3 folds further,
    where the splits are ours.

    Raises ConfigError for an unknown name, protocol or fold, and DataError for faults of the files. Both are one line that may be shown
    on a terminal, even where files have unusual names.
    """
    try:
        return _lawful(_read(DataName.of(name, splits).at_home, root))
    except (ConfigError, DataError) as error:
        raise type(error)(shown(str(error))) from None
    except OSError as error:
        place = shown(os.fsdecode(error.filename or name))
        raise DataError(
            f"{place[:200]} cannot be read ({error.strerror or error}). Look after its path, its owner and its disk.",
        ) from None


def _lawful(table: ImageTable) -> ImageTable:
    """Check the properties that all other code relies on, and return the table. Raises DataError."""
    for k, split in enumerate(SPLITS):
        if not (table.split == k).any():
            raise DataError(f"{table.name}: the {split} split holds no image. Training, selection and verdict need one each, add some.")
    if len(set(table.ids)) < len(table.ids):
        twice = next(name for name, count in Counter(table.ids).items() if count > 1)
        raise DataError(f"{table.name}: two images are called {twice} once their names are shown. Rename one of them.")
    return table


def _read(data: DataName, root: Path | None) -> ImageTable:
    name, protocol, fold, shift = data.dataset, data.protocol, data.fold or 0, FOLDS * data.shift
    if data.shift >= SHIFTS:
        raise ConfigError(
            f"{data.full}: the validation split is 0 to {SHIFTS - 1} folds further than usual. Write {data.on_fold(fold).full}."
        )
    if data.own:
        if fold >= FOLDS:
            raise ConfigError(f"{name} has one split protocol, official, with folds 0..4. Not {data.splits!r}.")
        data.check_path()
        found = OWN[data.kind](data, fold + shift) if data.kind in OWN else _folder(Path(data.where), fold + shift)
        return as_asked(found, data)
    if name not in CATALOG:
        if os.path.exists(name):
            kind = "table" if os.path.isfile(name) else "folder"
            raise ConfigError(
                f"{name!r} is a {'file' if kind == 'table' else kind} here, and a data set of your own is named by what it is: "
                f"{kind}:{name}."
            )
        raise ConfigError(
            f"Unknown dataset {name!r}. Choose from {nearest(name, list(CATALOG))}, or give your own images: folder:PATH, "
            "table:PATH or hf:NAME."
        )
    spec = CATALOG[name]
    if protocol not in spec.split_protocols:
        raise ConfigError(f"{name} has no split protocol {protocol!r}. Choose from {', '.join(spec.split_protocols)}.")
    if fold >= spec.folds:
        have = f"folds 0..{spec.folds - 1}" if spec.folds > 1 else "one split alone, fold 0"
        raise ConfigError(f"{name} has {have}, not fold {fold}.")
    return replace(spec.read(root, protocol, fold + shift), folds=spec.folds)


def _folder(path: Path, fold: int) -> ImageTable:
    try:
        return folder.read(path, fold)
    except NotByClass as error:
        raise DataError(f"{error}{instead_of(path)}") from None


__all__ = ["CATALOG", "DatasetSpec", "ImageTable", "open_dataset", "subsample"]
