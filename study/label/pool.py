"""Pictures without labels, as the networks of a study see them: each once, and none that the study has already."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from study.console.progress import busy
from study.errors import DataError
from study.inference.softmax import probabilities
from study.tracking.ledger import Ledger
from study.use.images import read_batches
from study.use.predictor import Predictor

CHUNK = 512  # pictures held at a time
BATCH = 64


@dataclass(kw_only=True, eq=False)
class Pool:
    """M pictures and what networks said of them."""

    paths: list[Path] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)  # sha256 of the files
    said: dict[str, np.ndarray] = field(default_factory=dict)  # by trial, classes [M]
    shares: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # [M, C] probabilities, the mean over the networks
    unreadable: list[str] = field(default_factory=list)  # why, one line each
    channels: int = 3
    copies: int = 0  # of pictures in the pool
    known: int = 0  # that the study has


def look_through(ledger: Ledger, trials: Sequence[str], paths: Sequence[Path], theirs: Collection[str] = ()) -> Pool:
    """Return the pictures with the predictions of the networks that these trials kept.

    `theirs` are digests of images that the study has, which are left out. Raises ConfigError where a network was not kept, DataError
    where no picture is left.
    """
    networks = {t: Predictor.from_folder(ledger.trial_folder(t)) for t in trials}
    channels = max((n.channels for n in networks.values()), default=3)
    pool, seen = Pool(said={t: np.zeros(0, int) for t in trials}, channels=channels), set[str]()
    with busy(f"looking at {len(paths):,} pictures with {len(trials)} networks", announced=True):
        for start in range(0, len(paths), CHUNK):
            _add(pool, networks, paths[start : start + CHUNK], theirs, seen)
    if not pool.paths:
        why = f" ({pool.unreadable[0]})" if pool.unreadable else ", but for images that the study has already" if pool.known else ""
        raise DataError(f"no picture of {len(paths)} can be labelled{why}. Name a folder of pictures that the study has not seen.")
    return pool


def digest(pixels: np.ndarray) -> str:
    """Return the digest of one picture, uint8 [S, S, C], as networks see it.

    A study's own images are known by it, whatever their files.
    """
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _add(pool: Pool, networks: Mapping[str, Predictor], paths: Sequence[Path], theirs: Collection[str], seen: set[str]) -> None:
    kept: list[Path] = []
    whole = np.zeros((0, 0))
    for number, (form, own) in enumerate(_by_form(networks)):
        pictures = dict[Path, np.ndarray]()
        for readable, problems in read_batches(paths if number == 0 else kept, form.read, BATCH):
            pictures |= dict(readable)
            pool.unreadable += [reason for _, reason in problems]
        if number == 0:
            kept = [*_new(pool, pictures, theirs, seen)]
            whole = np.zeros((len(kept), len(form.classes)))
        if not kept:
            return
        batch = np.stack([pictures[p] for p in kept])
        for trial, network in own:
            logits = network.logits(batch)
            pool.said[trial] = np.concatenate([pool.said[trial], logits.argmax(axis=1)])
            whole += probabilities(logits) / len(networks)
    pool.shares = whole if not len(pool.shares) else np.concatenate([pool.shares, whole])
    pool.paths += kept


def _by_form(networks: Mapping[str, Predictor]) -> Iterator[tuple[Predictor, list[tuple[str, Predictor]]]]:
    """Networks that take pictures prepared alike, with one of them that prepares these."""
    forms = dict[tuple[int, int], list[tuple[str, Predictor]]]()
    for trial, network in networks.items():
        forms.setdefault((network.kept.side, network.channels), []).append((trial, network))
    yield from ((own[0][1], own) for own in forms.values())


def _new(pool: Pool, pictures: Mapping[Path, np.ndarray], theirs: Collection[str], seen: set[str]) -> Iterator[Path]:
    for path, pixels in pictures.items():
        own = digest(pixels)
        if own in theirs:
            pool.known += 1
        elif own in seen:
            pool.copies += 1
        else:
            seen.add(own)
            pool.digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
            yield path
