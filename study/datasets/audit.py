"""The data doctor: everything that could make a study of these images lie, found in one pass.

Duplicates within and across splits, label conflicts, imbalance, tiny classes, and for data with sessions how much can be
told without looking at a single pixel.
"""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from study.datasets.spec import SPLITS, TEST, TRAIN, ImageTable
from study.errors import DataError
from study.facts import shown

NEAR_BITS = 3  # of 64: images whose difference hashes differ by at most this are near-duplicates
NEAR_MOST = 40_000  # images; pairs are compared in blocks, and a larger set is not compared
SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images that are, or nearly are, the same."""

    first: str
    second: str
    splits: tuple[str, str]
    labels: tuple[str, str]
    bits: int  # 0: the same pixels
    positions: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    dataset: str
    form: str
    images: int
    counts: dict[str, list[int]]
    classes: tuple[str, ...]
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
    warnings: tuple[str, ...]
    ignored: tuple[str, ...]  # the first of the files and folders left out, with the reason; the form counts them all

    @property
    def problems(self) -> tuple[str, ...]:
        """What must be mended before training."""
        return self.unreadable

    @property
    def blocking(self) -> bool:
        return bool(self.unreadable)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def audit(table: ImageTable) -> AuditReport:
    """Decodes every image once. Never raises for bad images: they are listed."""
    digests: list[str | None] = []
    hashes = np.zeros(len(table.ids), np.uint64)
    unreadable: list[str] = []
    for k in range(len(table.ids)):
        try:
            pixels = table.decode(k)
        except DataError as error:
            unreadable.append(str(error))
            digests.append(None)
            continue
        digests.append(hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest())
        hashes[k] = difference_hash(pixels)
    same: dict[str, list[int]] = defaultdict(list)
    for k, digest in enumerate(digests):
        if digest is not None and table.split[k] >= 0:
            same[digest].append(k)
    copies = [group for group in same.values() if len(group) > 1]
    across = [k for g in copies for k in g if table.split[k] > 0 and any(table.split[j] == 0 for j in g)]
    conflicts = [g for g in copies if len({int(table.labels[k]) for k in g}) > 1]
    near = _near_across(table, hashes, np.array([d is not None for d in digests]))
    pairs = [_pair(table, g[0], j, 0) for g in conflicts + [g for g in copies if g not in conflicts] for j in g[1:2]][:SHOWN]
    pairs += [_pair(table, a, b, bits) for a, b, bits in (near or [])[:SHOWN]]
    majority, (by_time, recall) = _majority(table), _by_metadata(table)
    report = AuditReport(
        dataset=table.name,
        form=table.form,
        images=len(table.ids),
        counts=table.counts(),
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
        warnings=(),
        ignored=tuple(_ignored(table)),
    )
    return dataclasses.replace(report, warnings=tuple(_warnings(report)))


def _ignored(table: ImageTable) -> list[str]:
    lines = [shown(f"{name} ({reason})") for name, reason in sorted(table.ignored)]
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"and {len(lines) - SHOWN} more"]


def difference_hash(pixels: np.ndarray) -> np.uint64:
    """64 bits: in an 8 x 9 grey thumbnail, is each pixel brighter than its right neighbour (dHash)."""
    grey = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("L").resize((9, 8), Image.Resampling.BOX)
    small = np.asarray(grey, dtype=np.int16)
    bits = (small[:, 1:] > small[:, :-1]).reshape(-1)
    return np.uint64(int("".join("1" if b else "0" for b in bits), 2))


def near_copies(pixels: np.ndarray, known: np.ndarray, asked: np.ndarray) -> list[int] | None:
    """Positions of the images in `asked` (bool [N]) that have an exact or near copy among those in `known`; None for too many to compare.

    `pixels`: uint8 [N, S, S, C]."""
    if known.sum() + asked.sum() > NEAR_MOST:
        return None
    first, second = np.flatnonzero(known), np.flatnonzero(asked)
    of_known = np.array([difference_hash(pixels[k]) for k in first], np.uint64)
    of_asked = np.array([difference_hash(pixels[k]) for k in second], np.uint64)
    return [int(second[row]) for row, _, _ in _nearest(of_known, of_asked)]


def _nearest(known: np.ndarray, asked: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(place in `asked`, place in `known`, differing bits) of hashes that lie within NEAR_BITS of their nearest."""
    for start in range(0, len(asked) if len(known) else 0, 256):
        bits = np.bitwise_count(asked[start : start + 256, None] ^ known[None, :])
        for row, column in enumerate(bits.argmin(axis=1)):
            if bits[row, column] <= NEAR_BITS:
                yield start + row, int(column), int(bits[row, column])


def _near_across(table: ImageTable, hashes: np.ndarray, valid: np.ndarray) -> list[tuple[int, int, int]] | None:
    """(train image, held-out image, differing bits), nearest first; exact copies of hash included only where pixels differ."""
    train = np.flatnonzero((table.split == TRAIN) & valid)
    held = np.flatnonzero((table.split > TRAIN) & valid)
    if len(train) + len(held) > NEAR_MOST:
        return None
    found = [(int(train[column]), int(held[row]), bits) for row, column, bits in _nearest(hashes[train], hashes[held])]
    return sorted(found, key=lambda f: f[2])


def _pair(table: ImageTable, a: int, b: int, bits: int) -> Pair:
    return Pair(
        first=table.ids[a],
        second=table.ids[b],
        splits=(SPLITS[table.split[a]], SPLITS[table.split[b]]),
        labels=(table.classes[table.labels[a]], table.classes[table.labels[b]]),
        bits=bits,
        positions=(a, b),
    )


def _majority(table: ImageTable) -> float:
    train, test = table.labels[table.split == TRAIN], table.labels[table.split == TEST]
    if not len(train) or not len(test):
        return 0.0
    return float((test == np.bincount(train).argmax()).mean())


def _by_metadata(table: ImageTable) -> tuple[float | None, float | None]:
    """Accuracy and macro recall on test of the label of the nearest training image in time, same instrument: no pixel is looked at."""
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
    if r.conflicts:
        out.append(f"{r.conflicts} groups of identical images carry different labels")
    train = r.counts["train"]
    if (low := min(train)) and max(train) / low >= 10:
        out.append(
            f"imbalance: {r.classes[train.index(max(train))]} has {max(train)} training images, {r.classes[train.index(low)]} has {low}"
        )
    if tiny := [f"{c} ({n})" for c, n in zip(r.classes, r.counts["test"], strict=True) if n < 10]:
        out.append(f"fewer than 10 test images of {', '.join(tiny[:5])}: their F1 is mostly noise")
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
