"""A user's own images as a table, from any source: unusable images are left out by name, missing splits are cut."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from study.console.text import shown
from study.datasets.called import check_names, doubts
from study.datasets.contents import DIGITS
from study.datasets.image_scan import Look, Source, looks
from study.datasets.imagefiles import decode_file, fingerprint, identity, refuse
from study.datasets.make_splits import count_folds, cut
from study.datasets.no_images import said, way_out
from study.datasets.several import labels_array, said_of
from study.datasets.spec import SPLITS, TRAIN, ImageTable, astride, display_name, left_out, some
from study.errors import DataError
from study.inference import pictures

SMALLEST = 8  # pixels of the short side: below it there is nothing to see
WEIGHT_MOST = 1e9
UNREADABLE_MOST = 0.05  # of the images: where more cannot be read something is wrong with all of them
IN_TWO_SPLITS = "listed in two splits, the first counts"
TWICE, DISPUTED, NO_LABEL, NO_FILE, NO_SPLIT = "duplicate path", "listed with two labels", "no label", "no such file", "no split"

Ignored = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Found:
    """One image, nothing decoded yet."""

    id: str
    source: Source
    identity: str  # of its content: changes when that does
    label: str
    split: int | None = None  # None: the user has none
    group: str | None = None
    weight: float | None = None


def found_file(path: Path, **values: Any) -> Found:
    """Return an image in a file; a broken link is reported when it is opened."""
    try:
        mark = identity(path)
    except FileNotFoundError:
        mark = f"{path}|gone"
    return Found(source=path, identity=mark, **values)


def make_table(
    name: str,
    kind: str,
    found: Sequence[Found],
    ignored: Ignored,
    *,
    where: str,
    groups_in: str | None = None,
    classes: Sequence[str] | None = None,
    notes: Sequence[str] = (),
    listed: Iterable[str] = (),
    several: bool = False,
    fold: int,
) -> ImageTable:
    """Return the table of a user's images.

    `notes` are further sentences for the line that describes the data. With `several`, labels are texts that `several.parsed` reads.
    `listed` are labels of images that were left out before. `classes` are in the order of labels (default: sorted by name). `where` and
    `groups_in` are names for errors.

    Raises DataError for data that would mislead: one class only, a class that train lacks, more than one image in twenty unreadable.
    """
    ignored = list(ignored)
    usable, seen = _usable(name, kind, found, ignored, where)
    if several:
        labels, names = labels_array([one.label for one in usable], classes or (), where)
        notes = [*notes, said_of(labels)]
    else:
        labels, names = _labels(usable, classes, where, ignored)
    groups = number_groups([one.group for one in usable])
    given = None if all(one.split is None for one in usable) else np.array([one.split for one in usable], np.int8)
    of = [labels[:, k] if several else labels == k for k in range(len(names))]
    if given is None and (few := [names[k] for k, own in enumerate(of) if own.sum() < 5]):
        have = "has" if len(few) == 1 else "have"
        raise DataError(
            f"{where}: {some(few)} {have} fewer than 5 images{left_out(ignored)}. Add some, or give train, val and test splits."
        )
    split, about = cut(labels, groups, seen, given, fold, what=(groups_in if groups is not None else None) or where)
    if unseen := [c for k, c in enumerate(names) if not ((split == TRAIN) & of[k]).any()]:
        raise DataError(f"{where}: no train image of {some(unseen)}. A class must be seen to be learnt. {_unseen(unseen, names)}.")
    counts = "; ".join(f"{s} {int((split == k).sum())}" for k, s in enumerate(SPLITS))
    there = set(names) if several else {display_name(label) for label in (*listed, *(one.label for one in found))}
    notes = [*notes, *doubts(names), *_missing(usable, there, names)]
    if given is not None and groups is not None and (count := astride(groups, split)):
        notes = [*notes, f"{count} group{'s' * (count > 1)} in more than one split"]
    sources = [one.source for one in usable]
    return ImageTable(
        name=name,
        classes=tuple(names),
        ids=tuple(one.id for one in usable),
        labels=labels,
        split=split,
        groups=groups,
        form=f"{len(usable)} images of {len(names)} {'labels' if several else 'classes'}, {about}; "
        f"{counts}{_formats(seen)}{''.join(f'; {note}' for note in notes)}{left_out(ignored)}",
        fingerprint=fingerprint([kind, *(one.identity + "|2" * look.new for one, look in zip(usable, seen, strict=True))]),
        decode=lambda i: _decode(sources[i], usable[i].id),
        policy="mild",
        channels=3,
        native_size=max(min(one.height, one.width) for one in seen),
        sizes=np.array([(one.height, one.width) for one in seen], np.int64),
        ignored=tuple(ignored),
        weights=_weights(usable, split, where),
        folds=count_folds(given),
        contents=tuple(one.digest[:DIGITS] for one in seen),
    )


def _usable(name: str, kind: str, found: Sequence[Found], ignored: Ignored, where: str) -> tuple[list[Found], list[Look]]:
    """Return the images that can be read and are no smaller than SMALLEST, each with its facts; the others are added to `ignored`."""
    taken = looks([one.source for one in found], fingerprint([kind, *(one.identity for one in found)]), name)
    bad = [
        (one.id, said(one.source, look.reason) if isinstance(one.source, Path) else look.reason)
        for one, look in zip(found, taken, strict=True)
        if look.reason
    ]
    if len(bad) > UNREADABLE_MOST * len(found):
        raise refuse(bad, where)
    ignored += [(image, reason if _whole(reason) else f"corrupt: {reason}") for image, reason in bad]
    kept = []
    for one, look in zip(found, taken, strict=True):
        if not look.reason and min(look.height, look.width) < SMALLEST:
            ignored.append((one.id, f"too small: short side below {SMALLEST} pixels"))
        elif not look.reason:
            kept.append((one, look))
    if not kept:
        raise DataError(f"{where}: none of its {len(found)} images can be used{left_out(ignored)}.")
    return [one for one, _ in kept], [look for _, look in kept]


def _whole(reason: str) -> bool:
    """Return True where an image is refused although its file is intact, because of its form."""
    return any(word in reason for word in ("pixels", "channels", "save it", "nothing says"))


def _missing(usable: Sequence[Found], listed: set[str], names: Sequence[str]) -> list[str]:
    """Return a note about classes without an image left, and about images that alone have no group or weight."""
    lost = sorted(listed - set(names))
    said = [f"no image left of {some(lost, 5)}"] if lost else []
    for what in ("group", "weight"):
        count = sum(getattr(one, what) is None for one in usable)
        said += [f"{count} without a {what}"] if 0 < count < len(usable) else []
    groups = {one.group for one in usable if one.group is not None}
    if alike := len(groups) - len({group.casefold() for group in groups}):
        said.append(f"{alike} group{'s differ' if alike > 1 else ' differs'} from another in case alone")
    return said


def _unseen(unseen: Sequence[str], names: Sequence[str]) -> str:
    """Return what to do about classes that train lacks."""
    alike = [(u, n) for u in unseen for n in names if n not in unseen and n.lower() == u.lower()]
    if alike:
        return "Rename what differs in case alone: " + some([f"{u} is {n} in train" for u, n in alike], 3)
    return "Add some to train, or take the others out of validation and test"


def _labels(found: Sequence[Found], classes: Sequence[str] | None, where: str, ignored: Ignored) -> tuple[np.ndarray, list[str]]:
    """Return int64 [N], and the classes' display names; a class without images is none."""
    present = {one.label for one in found}
    raw = [c for c in classes if c in present] if classes is not None else sorted(present)
    if len(raw) < 2:
        raise DataError(f"{where} holds one class only ({display_name(raw[0])}{left_out(ignored)}); there is nothing to tell apart.")
    check_names(raw, where)
    number = {label: k for k, label in enumerate(raw)}
    return np.array([number[one.label] for one in found], np.int64), [display_name(c) for c in raw]


def number_groups(groups: Sequence[str | None]) -> np.ndarray | None:
    """Return int64 [N] by the groups' names in order; an image without one is a group of its own where others have one."""
    if all(g is None for g in groups):
        return None
    number = {g: k for k, g in enumerate(sorted({g for g in groups if g is not None}))}
    return np.array([number[g] if g is not None else len(number) + k for k, g in enumerate(groups)], np.int64)


def _weights(found: Sequence[Found], split: np.ndarray, where: str) -> np.ndarray | None:
    """Return float32 [N] with mean 1 over train; an image without a weight gets the data set's mean.

    Raises DataError for a weight that single precision cannot hold beside the others, and for a class that has only zero weights.
    """
    given = np.array([np.nan if one.weight is None else one.weight for one in found], np.float64)
    if np.isnan(given).all():
        return None
    most = int(np.nanargmax(given))
    if given[most] > WEIGHT_MOST:
        raise DataError(
            f"{where}: {found[most].id} has the weight {given[most]:g}. Weights must be at most {WEIGHT_MOST:g}, for they are compared."
        )
    values = np.where(np.isnan(given), np.nanmean(given), given)
    if (mean := values[split == TRAIN].mean()) <= 0:
        raise DataError(f"{where}: the weights of all training images are 0. Give some a weight above it.")
    trained = dict.fromkeys(sorted({one.label for one in found}), 0.0)
    for one, value, side in zip(found, values, split, strict=True):
        trained[one.label] += value if side == TRAIN else 0.0
    if silent := [display_name(label) for label, total in trained.items() if not total]:
        raise DataError(
            f"{where}: the weights of all training images of {some(silent)} are 0, so nothing would be learnt of it. Give some a "
            "weight above it."
        )
    return (values / mean).astype(np.float32)


def _formats(seen: Sequence[Look]) -> str:
    """Return a note about the conversion of unusual files, for the form."""
    deep, pages = sum(one.deep for one in seen), sum(one.pages for one in seen)
    return (f"; {deep} of more than 8 bit, scaled to 8" if deep else "") + (
        f"; {pages} of several pages, the first is taken" if pages else ""
    )


def _decode(source: Source, name: str) -> np.ndarray:
    if isinstance(source, Path):
        return decode_file(source, 3)
    import io

    try:
        return pictures.decode(io.BytesIO(source()), 3)
    except ValueError as error:
        raise DataError(shown(f"{name} cannot be decoded ({error}); {way_out(str(error)).way_out}.")) from None


def without_twins(found: Sequence[Found], ignored: Ignored) -> list[Found]:
    """Return one image of each id. The others are left out by name, and so are all of an id that is listed with different labels."""
    labels: dict[str, set[str]] = {}
    splits: dict[str, set[int | None]] = {}
    for one in found:
        labels.setdefault(one.id, set()).add(one.label)
        splits.setdefault(one.id, set()).add(one.split)
    often, kept = Counter[str](), []
    for one in found:
        if len(labels[one.id]) > 1:
            ignored.append((one.id, DISPUTED))
        elif often[one.id]:
            ignored.append((one.id, TWICE if len(splits[one.id]) == 1 else IN_TWO_SPLITS))
        else:
            kept.append(one)
        often[one.id] += 1
    return kept
