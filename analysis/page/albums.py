"""Images that a reader of the report should see, with the reason: chosen from the predictions of the confirm runs, never from pixels.

The pixels are fetched by a program that has the data (`study.conduct.report_pictures`) and are kept small in the study's folder, so
that the page can be made anywhere. An image that was not fetched is not shown.
"""

import base64
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.data.frames import Frames
from analysis.findings.comparisons import Gathered
from analysis.findings.small_classes import FEW_IMAGES
from analysis.page.by_class import Classes, by_question
from analysis.verdict import Findings
from study.question.naming import splits_said
from study.storage import parquet

HARDEST, PAIRS, EACH, APART = 12, 3, 4, 8
"""Numbers of pictures in an album, of confused pairs, of pictures of each pair, and of pictures that only one strategy gets right."""
LARGEST = 60_000  # bytes of one small picture: nothing of ours is larger

Key = tuple[str, str]
"""A data set and the protocol of its splits: (data set, split protocol)."""
Fetch = Callable[[Mapping[Key, Sequence[str]]], None]
"""A function that puts small copies of the given images into the study's folder."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture and the text below it."""

    image: str
    truth: str
    said: str


@dataclass(frozen=True, kw_only=True)
class Album:
    """Pictures that belong together."""

    key: Key
    title: str
    note: str
    shown: tuple[Shown, ...]


def albums(frames: Frames, findings: Findings) -> list[Album]:
    """Return the albums of each data set at its largest size.

    They are its hardest test images, its most confused pairs, and the images on which two strategies differ in all runs.
    """
    return [album for own in by_question(frames, findings) for album in _of(own)]


def wanted(found: Sequence[Album]) -> dict[Key, list[str]]:
    """Return by data set the images to be fetched, each once."""
    out: dict[Key, dict[str, None]] = {}
    for album in found:
        out.setdefault(album.key, {}).update(dict.fromkeys(s.image for s in album.shown))
    return {key: list(images) for key, images in out.items()}


def _of(own: Classes) -> Iterator[Album]:
    key, first = (own.question.dataset, own.question.splits), own.ranked[0]
    gathered, runs = own.gathered, len(own.gathered.predicted[first])
    said, truth = _each(gathered, first)

    def show(images: np.ndarray, answers: np.ndarray, chances: np.ndarray) -> tuple[Shown, ...]:
        return tuple(
            Shown(
                image=str(gathered.images[n]),
                truth=_called(gathered.labels[n], own.names),
                said=f"{_answers(answers[:, n], own.names)}; {100 * chances[:, n].mean():.0f} % on the truth",
            )
            for n in images
        )

    name = own.question.name
    loss = -np.log(np.maximum(truth, 1e-12)).mean(axis=0)
    if np.median(own.images[own.images > 0]) >= FEW_IMAGES:  # of fewer, what is hard is chance
        yield Album(
            key=key,
            title=f"{name}: the hardest test images",
            note=(
                f"The highest mean loss over {len(said)} run{'s' * (len(said) != 1)} of {first}. "
                "Often the label is wrong, or the image shows something else."
            ),
            shown=show(np.argsort(-loss, kind="stable")[:HARDEST], said, truth),
        )
    if gathered.several:
        if len(own.ranked) > 1:
            yield from _one_alone(own, key, first, own.ranked[1], show)
        return
    confusion = own.confusion(first)
    np.fill_diagonal(confusion, 0)
    for place in np.argsort(-confusion, axis=None, kind="stable")[:PAIRS]:
        i, j = np.unravel_index(place, confusion.shape)
        if confusion[i, j] == 0:
            break
        hits = np.where(gathered.labels == i, (said == j).sum(axis=0), 0)
        taken = np.argsort(-hits, kind="stable")[:EACH]
        yield Album(
            key=key,
            title=f"{name}: {own.names[i]} taken for {own.names[j]}",
            note=(
                f"{confusion[i, j] / runs / max(int(own.images[i]), 1):.0%} of the {own.images[i]} test images of "
                f"{own.names[i]}, by {first}."
            ),
            shown=show(taken[hits[taken] > 0], said, truth),
        )
    if len(own.ranked) > 1:
        yield from _one_alone(own, key, first, own.ranked[1], show)


def _one_alone(own: Classes, key: Key, first: str, second: str, show: Callable[..., tuple[Shown, ...]]) -> Iterator[Album]:
    """Yield the images that one strategy gets right in all of its runs and the other in none, both ways."""
    gathered = own.gathered
    same = {s: np.stack([p == gathered.labels for p in gathered.predicted[s].values()]) for s in (first, second)}
    right = {s: own.all(axis=2) if gathered.several else own for s, own in same.items()}
    for a, b in ((first, second), (second, first)):
        alone = np.flatnonzero(right[a].all(axis=0) & ~right[b].any(axis=0))
        said, truth = _each(gathered, b)
        order = alone[np.argsort(truth[:, alone].mean(axis=0), kind="stable")]
        yield Album(
            key=key,
            title=f"{own.question.name}: {a} is always right, {b} always wrong",
            note=f"{len(alone)} of {len(gathered.labels)} test images, over all runs of both. Below each, what {b} names it.",
            shown=show(order[:APART], said, truth),
        )


def _each(gathered: Gathered, strategy: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the predictions and the probabilities of the truth [K, N], of each run once: one that is solved stands for every seed."""
    trials = gathered.trials[strategy]
    seeds = list({tuple(own): seed for seed, own in trials.items()}.values())
    said, truth = (np.stack([kind[strategy][seed] for seed in seeds]) for kind in (gathered.predicted, gathered.truth))
    return said, truth


def _called(label: np.ndarray, names: Sequence[str]) -> str:
    """Return the name of a class, or the names of labels bool [C]."""
    return (" + ".join(names[int(k)] for k in np.flatnonzero(label)) or "no label") if np.ndim(label) else names[int(label)]


def _answers(said: np.ndarray, names: Sequence[str]) -> str:
    """Return the answers of the runs in words: "named happy (4 of 5 runs)"."""
    called, count = Counter(_called(s, names) for s in said).most_common(1)[0]
    return f"named {called} ({count} of {len(said)} run{'s' * (len(said) != 1)})"


# -- the small copies -----------------------------------------------------------------------------------
def read(data: bytes | None) -> pd.DataFrame:
    """Read the pictures that `study.conduct.report_pictures` left, empty where there are none or they cannot be read.

    The columns are dataset, splits, image, label, role ("sample" or "") and jpeg.
    """
    columns = {"dataset": str, "splits": str, "image": str, "label": str, "role": str, "jpeg": bytes}
    try:
        rows = parquet.read(data, columns=[*columns]).to_pylist() if data else []
    except (pa.ArrowException, OSError, ValueError):
        rows = []
    sound = [r for r in rows if all(isinstance(r[c], kind) for c, kind in columns.items())]
    return pd.DataFrame([r for r in sound if r["jpeg"][:2] == b"\xff\xd8" and len(r["jpeg"]) <= LARGEST], columns=[*columns])


def sources(small: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """Return the picture as a data URL by (data set, splits, image)."""
    rows = small[["dataset", "splits", "image", "jpeg"]].itertuples(index=False)
    return {(r.dataset, r.splits, r.image): "data:image/jpeg;base64," + base64.b64encode(r.jpeg).decode() for r in rows}


def samples(small: pd.DataFrame) -> dict[str, list[dict[str, str]]]:
    """Return by data set its samples in the order of classes: {label, image, source}."""
    own = small[small["role"] == "sample"]
    source = sources(own)
    out: dict[str, list[dict[str, str]]] = {}
    for r in own.itertuples(index=False):
        name = f"{r.dataset} ({said})" if (said := splits_said(r.splits)) else r.dataset
        out.setdefault(name, []).append({"label": r.label, "image": r.image, "source": source[r.dataset, r.splits, r.image]})
    return out
