"""The data doctor: everything that could make a study of these images mislead, found in one pass.

It finds duplicates within and across splits, label conflicts, imbalance, tiny classes, images of odd size, dark and blurred images, and,
for data with sessions, how much can be predicted without the pixels.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from study.console.text import shown
from study.datasets.copies import NEAR_BITS, difference_hash, sure_pairs
from study.datasets.image_scan import Look, look
from study.datasets.spec import SPLITS, TEST, TRAIN, ImageTable, astride, some
from study.errors import DataError

NEAR_MOST = 40_000  # images; pairs are compared in blocks, and a larger set is not compared
SHOWN = 20
FEW = 5  # test images of a class, below which its score is a matter of one or two of them
ODD = 4.0  # times the usual short side, or aspect ratio, or less than 1 / ODD of it
LONG = 1.5  # long to short side: beyond it the centre square loses a third of a picture or more
DARK = 50  # of 255: nearly all pixels are darker
BLURRED = 0.2  # of the usual sharpness


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images that are, or nearly are, the same."""

    first: str
    second: str
    splits: tuple[str, str]
    labels: tuple[str, str]
    bits: int  # of their hashes, that differ
    positions: tuple[int, int]
    identical: bool = False  # the same pixels

    @property
    def apart(self) -> str:
        return "identical" if self.identical else f"nearly the same (distance {self.bits} of 64)"


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An image that a person should look at. The data doctor changes nothing."""

    image: str
    split: str
    label: str
    # kind: "copy", "copy in train", "near copy in train", "copy, other label", "near copy, other label",
    # "odd size", "dark", "blurred" or "label"
    kind: str
    detail: str
    position: int


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    dataset: str
    form: str
    images: int
    counts: dict[str, list[int]]
    fingerprint: str = ""  # of the images' contents, whatever the splits
    classes: tuple[str, ...]
    split_images: dict[str, int] = dataclasses.field(
        default_factory=dict
    )  # by split: counts add up to more where images have several labels
    unreadable: tuple[str, ...]
    exact_extra: int  # copies beyond the first, anywhere
    exact_across: int  # val or test images whose pixels are also in train
    near_across: int | None  # val or test images with a near-duplicate in train; None: not compared
    conflicts: int  # groups of equal pixels with different labels
    pairs: tuple[Pair, ...]  # the first of each kind, as examples
    majority_accuracy: float  # of always saying the commonest training class, on test
    metadata_accuracy: float | None  # label of the nearest training image in time, same instrument, on test
    metadata_recall: float | None  # macro
    sessions_shared: int | None  # val or test images whose session (group) has images in train too
    groups_astride: int | None = None  # groups, known by nothing but their name, that have images in more than one split
    warnings: tuple[str, ...]
    suspects: tuple[Suspect, ...] = ()
    long_images: int = 0  # whose long side is more than LONG times the short one
    long_lost: float = 0.0  # share of these images' pixels, in the mean, that lies outside the centre square
    median_side: int | None = None  # of the images' shorter sides, in pixels
    near_conflicts: int | None = None  # images with a near copy of another label; None: not compared
    ignored: tuple[str, ...]  # the first of the files and folders left out, with the reason; the form counts them all

    @property
    def problems(self) -> tuple[str, ...]:
        """Return the faults that must be mended before training."""
        return self.unreadable

    @property
    def blocking(self) -> bool:
        return bool(self.unreadable)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def audit(table: ImageTable) -> AuditReport:
    """Return the report; every image is decoded once. Bad images are listed and never raise."""
    digests: list[str | None] = []
    hashes = np.zeros(len(table.ids), np.uint64)
    seen: list[Look | None] = []
    unreadable: list[str] = []
    for k in range(len(table.ids)):
        try:
            pixels = table.decode(k)
        except DataError as error:
            unreadable.append(str(error))
            digests.append(None)
            seen.append(None)
            continue
        seen.append(one := look(pixels))
        digests.append(one.digest)
        hashes[k] = one.hash
    same: dict[str, list[int]] = defaultdict(list)
    for k, digest in enumerate(digests):
        if digest is not None and table.split[k] >= 0:
            same[digest].append(k)
    copies = [group for group in same.values() if len(group) > 1]
    across = [k for g in copies for k in g if table.split[k] > 0 and any(table.split[j] == 0 for j in g)]
    conflicts = [g for g in copies if len({int(table.kinds[k]) for k in g}) > 1]
    near = _near_across(table, hashes, np.array([d is not None for d in digests]))
    pairs = [_pair(table, g[0], j, 0, True) for g in conflicts + [g for g in copies if g not in conflicts] for j in g[1:2]][:SHOWN]
    pairs += [_pair(table, a, b, bits, digests[a] == digests[b]) for a, b, bits in (near or [])[:SHOWN]]
    disputed = near_conflicts(table, seen)
    majority, (by_time, recall) = _majority(table), _by_metadata(table)
    count, lost = _long(table, seen)
    report = AuditReport(
        dataset=table.name,
        form=table.form,
        images=len(table.ids),
        counts=table.counts(),
        split_images={name: table.of(k)[0] for k, name in enumerate(SPLITS)},
        fingerprint=table.fingerprint,
        classes=table.classes,
        unreadable=tuple(unreadable),
        exact_extra=sum(len(g) - 1 for g in copies),
        exact_across=len(across),
        near_across=None if near is None else len({b for _, b, _ in near}),
        conflicts=len(conflicts),
        pairs=tuple(pairs),
        majority_accuracy=majority,
        metadata_accuracy=by_time,
        metadata_recall=recall,
        sessions_shared=_sessions_shared(table),
        groups_astride=None if table.groups is None or table.metadata is not None else astride(table.groups, table.split),
        warnings=(),
        suspects=(*_disputed_copies(table, conflicts), *disputed, *_copies(table, copies, near or []), *odd_images(table, seen)),
        long_images=count,
        long_lost=lost,
        median_side=_median_side(seen),
        near_conflicts=len(disputed),
        ignored=tuple(_ignored(table)),
    )
    return dataclasses.replace(report, warnings=tuple(_warnings(report)))


def _median_side(seen: Sequence[Look | None]) -> int | None:
    sides = [min(one.height, one.width) for one in seen if one is not None]
    return int(np.median(sides)) if sides else None


def _long(table: ImageTable, seen: Sequence[Look | None]) -> tuple[int, float]:
    """Return (how many tiles, or whole images, are longer than LONG to 1, the mean share of them outside their centre square)."""
    down, across = table.tiles
    shapes = [sorted((one.height / down, one.width / across)) for one in seen if one is not None]
    lost = [1 - short / long for short, long in shapes if long > LONG * short]
    return len(lost), float(np.mean(lost)) if lost else 0.0


def long_said(report: AuditReport) -> str:
    """Return a warning about long images, one line; an empty text where there are none."""
    if not report.long_images:
        return ""
    return (
        f"{report.long_images} of {report.images} images are longer than {LONG:g} : 1, and the centre square loses "
        f"{report.long_lost:.0%} of each in "
        "the mean: --set fit=pad shows all of it, fit=stretch too, and ?tiles=1x3 behind the data's name shows long images in parts"
    )


def _ignored(table: ImageTable) -> list[str]:
    lines = [shown(f"{name} ({reason})") for name, reason in sorted(table.ignored)]
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"and {len(lines) - SHOWN} more"]


def _copies(table: ImageTable, groups: Sequence[Sequence[int]], near: Sequence[tuple[int, int, int]]) -> list[Suspect]:
    """Return each validation or test image with an exact or near copy in train, with that image's name, then all other copies but the
    first."""
    twin = {
        k: j
        for g in groups
        for k in g
        if table.split[k] > TRAIN
        for j in [next((j for j in g if table.split[j] == TRAIN), None)]
        if j is not None
    }
    out = [_suspect(table, k, "copy in train", f"the same pixels as {table.ids[j]}") for k, j in sorted(twin.items())]
    out += [
        _suspect(table, held, "near copy in train", f"{table.ids[train]}, whose hash differs by {bits} of 64 bits")
        for train, held, bits in sorted(near, key=lambda n: n[1])
        if held not in twin
    ]
    more = [(k, g[0]) for g in groups for k in g[1:] if k not in twin]
    return [*out, *(_suspect(table, k, "copy", f"the same pixels as {table.ids[j]}") for k, j in sorted(more))]


def _disputed_copies(table: ImageTable, conflicts: Sequence[Sequence[int]]) -> list[Suspect]:
    """Return every image of the groups with equal pixels and different labels, with one of another label."""
    return [
        _suspect(table, k, "copy, other label", f"{table.ids[j]} is {table.called(j)}")
        for group in conflicts
        for k in group
        for j in [next(j for j in group if table.kinds[j] != table.kinds[k])]
    ]


def near_conflicts(table: ImageTable, seen: list[Look | None]) -> list[Suspect]:
    """Return images with a sure near copy of another label; exact copies are listed as conflicts."""
    known = [(k, one) for k, one in enumerate(seen) if one is not None and table.split[k] >= 0]
    other: dict[int, int] = {}
    for first, second in sure_pairs(np.array([one.hash for _, one in known], np.uint64), [one.thumbnail for _, one in known]):
        for (a, left), (b, right) in zip([known[k] for k in first], [known[k] for k in second], strict=True):
            if table.kinds[a] != table.kinds[b] and left.digest != right.digest:
                other |= {a: other.get(a, b), b: other.get(b, a)}
    return [_suspect(table, k, "near copy, other label", f"{table.ids[j]} is {table.called(j)}") for k, j in sorted(other.items())]


def odd_images(table: ImageTable, seen: list[Look | None]) -> list[Suspect]:
    """Return images unlike the rest in size, and dark or blurred ones. Sharpness has no unit, so it is compared with the median of all."""
    known = [(k, one) for k, one in enumerate(seen) if one is not None and table.split[k] >= 0]
    if not known:
        return []
    side = np.median([min(one.height, one.width) for _, one in known])
    shape = np.median([one.width / one.height for _, one in known])
    sharp = np.median([one.sharp for _, one in known])
    out = []
    for k, one in known:
        relative, aspect = min(one.height, one.width) / side, one.width / one.height / shape
        if not (1 / ODD <= relative <= ODD and 1 / ODD <= aspect <= ODD):
            out.append(_suspect(table, k, "odd size", f"{one.width} x {one.height} pixels"))
        if one.bright < DARK:
            out.append(_suspect(table, k, "dark", f"99 % of its pixels are below {one.bright:.0f} of 255"))
        elif one.sharp < BLURRED * sharp:
            out.append(_suspect(table, k, "blurred", f"{one.sharp / sharp:.0%} of the usual sharpness"))
    return out


def _suspect(table: ImageTable, k: int, kind: str, detail: str) -> Suspect:
    split, label = SPLITS[table.split[k]], table.called(k)
    return Suspect(image=table.ids[k], split=split, label=label, kind=kind, detail=detail, position=k)


def near_copies(pixels: np.ndarray, known: np.ndarray, asked: np.ndarray) -> list[int] | None:
    """Return the positions of the images in `asked` (bool [N]) that have an exact or near copy among those in `known`.

    None stands for too many to compare. `pixels`: uint8 [N, S, S, C].
    """
    if known.sum() + asked.sum() > NEAR_MOST:
        return None
    first, second = np.flatnonzero(known), np.flatnonzero(asked)
    of_known = np.array([difference_hash(pixels[k]) for k in first], np.uint64)
    of_asked = np.array([difference_hash(pixels[k]) for k in second], np.uint64)
    return [int(second[row]) for row, _, _ in _nearest(of_known, of_asked)]


def _nearest(known: np.ndarray, asked: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield (place in `asked`, place in `known`, differing bits) of hashes that lie within NEAR_BITS of their nearest."""
    for start in range(0, len(asked) if len(known) else 0, 256):
        bits = np.bitwise_count(asked[start : start + 256, None] ^ known[None, :])
        for row, column in enumerate(bits.argmin(axis=1)):
            if bits[row, column] <= NEAR_BITS:
                yield start + row, int(column), int(bits[row, column])


def _near_across(table: ImageTable, hashes: np.ndarray, valid: np.ndarray) -> list[tuple[int, int, int]] | None:
    """Return (train image, held-out image, differing bits), nearest first. Equal hashes are included only where pixels differ."""
    train = np.flatnonzero((table.split == TRAIN) & valid)
    held = np.flatnonzero((table.split > TRAIN) & valid)
    if len(train) + len(held) > NEAR_MOST:
        return None
    found = [(int(train[column]), int(held[row]), bits) for row, column, bits in _nearest(hashes[train], hashes[held])]
    return sorted(found, key=lambda f: f[2])


def _pair(table: ImageTable, a: int, b: int, bits: int, identical: bool) -> Pair:
    return Pair(
        first=table.ids[a],
        second=table.ids[b],
        splits=(SPLITS[table.split[a]], SPLITS[table.split[b]]),
        labels=(table.called(a), table.called(b)),
        bits=bits,
        positions=(a, b),
        identical=identical,
    )


def _majority(table: ImageTable) -> float:
    train, test = table.kinds[table.split == TRAIN], table.kinds[table.split == TEST]
    if not len(train) or not len(test):
        return 0.0
    return float((test == np.bincount(train).argmax()).mean())


def _by_metadata(table: ImageTable) -> tuple[float | None, float | None]:
    """Return test accuracy and macro recall of a baseline without pixels: the label of the training image nearest in time, same
    instrument."""
    if table.metadata is None:
        return None, None
    train, test = np.flatnonzero(table.split == TRAIN), np.flatnonzero(table.split == TEST)
    if not len(train) or not len(test):
        return None, None
    gap = np.abs(table.metadata.seconds[test][:, None] - table.metadata.seconds[train][None, :])
    gap += 1e12 * (table.metadata.instrument[test][:, None] != table.metadata.instrument[train][None, :])
    said = table.labels[train[gap.argmin(axis=1)]]
    truth = table.labels[test]
    recalls = [float((said[truth == k] == k).mean()) for k in np.unique(truth)]
    return float((said == truth).mean()), float(np.mean(recalls))


def _sessions_shared(table: ImageTable) -> int | None:
    if table.groups is None:
        return None
    return int(np.isin(table.groups[table.split > TRAIN], table.groups[table.split == TRAIN]).sum())


def rare(classes: Sequence[str], counts: dict[str, list[int]]) -> list[str]:
    """Return a warning about classes with fewer than FEW test images, one line or none; `counts` as `ImageTable.counts` gives them."""
    found = [f"{c} ({n})" for c, n in zip(classes, counts["test"], strict=True) if n < FEW]
    return found and [
        f"fewer than {FEW} test images of {some(found, 5)}: one of them moves the class's score by {100 / FEW:.0f} points or more; "
        "add images, merge the class with another one, or leave it out"
    ]


def _warnings(r: AuditReport) -> list[str]:
    spelt: dict[str, list[str]] = defaultdict(list)
    for name in sorted(r.classes):
        spelt[name.casefold()].append(name)
    out = [f"the classes {' and '.join(names)} differ in case only" for names in spelt.values() if len(names) > 1]
    if r.exact_across:
        out.append(f"{r.exact_across} validation or test images are pixel for pixel in train too")
    if r.near_across:
        out.append(
            f"{r.near_across} validation or test images have a near-duplicate in train (difference hash within {NEAR_BITS} of 64 bits)"
        )
    if r.groups_astride:
        out.append(
            f"{r.groups_astride} group{'s have' if r.groups_astride > 1 else ' has'} images in more than one split; "
            f"{r.sessions_shared} validation "
            "or test images are of a group that train has too, so that scores are too high: keep groups whole, or leave the splits to us"
        )
    if r.conflicts:
        out.append(f"{r.conflicts} groups of identical images carry different labels")
    if r.near_conflicts:
        out.append(f"{r.near_conflicts} images have a near-duplicate with another label")
    train = r.counts["train"]
    if (low := min(train)) and max(train) / low >= 10:
        out.append(
            f"imbalance: {r.classes[train.index(max(train))]} has {max(train)} training images, {r.classes[train.index(low)]} has {low}"
        )
    in_test = list(zip(r.classes, r.counts["test"], strict=True))
    out += rare(r.classes, r.counts)
    if tiny := [f"{c} ({n})" for c, n in in_test if FEW <= n < 10]:
        out.append(f"fewer than 10 test images of {some(tiny, 5)}: their F1 is mostly noise")
    if absent := [f"{c} in {s}" for s in SPLITS for c, n in zip(r.classes, r.counts[s], strict=True) if n == 0]:
        out.append(f"no image of {', '.join(absent[:5])}: shown as n/a")
    if r.metadata_accuracy is not None and r.metadata_accuracy > r.majority_accuracy + 0.05:
        out.append(
            f"leak: without looking at a pixel, the label of the nearest training image in time scores {r.metadata_accuracy:.1%} "
            f"(macro recall {r.metadata_recall:.1%}) against {r.majority_accuracy:.1%} for the commonest class; "
            + (
                f"{r.sessions_shared} held-out images share a session with train: use @session splits for claims"
                if r.sessions_shared
                else "no session is shared with train, but neighbouring ones are alike"
            )
        )
    return out
