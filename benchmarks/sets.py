"""Do prediction sets hold the true class as often as they promise, and are pictures of something else recognised? On real photographs:

    python -m benchmarks.sets FOLDER... --work WORK [--splits 30]

Every data set's training and validation images (test images stay closed) go once through a pretrained network. For each of `--splits`
random splits of them into 60 / 20 / 20 %, a logistic regression is fitted on the features, with strength and temperature chosen on the
second part as a study does it. Sets come from the second part, and coverage from the third.

Beside it stand five folds, with sets from the predictions for all images out of fold, each fold by the threshold of the others. Last
comes "none of these": a class left out, pictures of the third part taken for something else, and pictures of the other data sets.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from study.inference.sets import least_probability, members
from study.inference.softmax import probabilities
from study.metrics import fit_temperature, score
from study.question.naming import DataName
from study.run import open_inputs
from study.screen.probe import line_config
from study.storage.places import find_places
from study.training.exact import choose, fit_path, freeze
from study.use.unknown import LEVEL, Known, nearness, recognised

LEVELS = (0.8, 0.9, 0.95)
STRENGTHS = (1e-3, 1e-2, 1e-1)
FOLDS = 5


def features_of(folder: Path, network: str, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """(features [N, D] of all but the test images, labels [N])."""
    name = DataName.parse(f"folder:{folder.resolve()}")
    config, places = line_config(network, name.dataset, name.splits, None), find_places(str(work))
    inputs = open_inputs(config, places)
    frozen = freeze(config, inputs, weights=places.weights)
    rows = np.concatenate([inputs.train, inputs.val])
    return np.concatenate([frozen.train(), frozen.val()]), inputs.table.labels[rows]


def parts(rng: np.random.Generator, labels: np.ndarray, shares: tuple[float, ...]) -> list[np.ndarray]:
    """Positions, classes in proportion."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    place = (np.arange(len(labels)) * 0.6180339887) % 1  # spread evenly over every class
    member = np.searchsorted(np.cumsum(shares)[:-1], place, side="right")
    return [order[member == k] for k in range(len(shares))]


def fitted(x: np.ndarray, y: np.ndarray, train: np.ndarray, val: np.ndarray, *others: np.ndarray) -> Iterator[np.ndarray]:
    """Probabilities of the images of `val` and of each of `others`, by a classifier that was fitted on `train` and chosen by `val`."""
    path = fit_path(x[train], y[train], int(y.max()) + 1, strengths=STRENGTHS)
    best = path[choose([score(c.logits(x[val]), y[val])[0] for c in path])]
    t = fit_temperature(best.logits(x[val]), y[val])
    for images in (val, *others):
        yield probabilities(best.logits(x[images]) / t)


def true_share(shares: np.ndarray, labels: np.ndarray) -> np.ndarray:
    found: np.ndarray = shares[np.arange(len(labels)), labels]
    return found


def one_split(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> dict[float, tuple[float, float]]:
    """Return by level the share of the third part's sets that hold the true class, and their mean size."""
    train, val, test = parts(rng, y, (0.6, 0.2, 0.2))
    said, tested = fitted(x, y, train, val, test)
    out = {}
    for level in LEVELS:
        least = least_probability(true_share(said, y[val]), level)
        if least is not None:
            inside = members(tested, least)
            out[level] = (float(inside[np.arange(len(test)), y[test]].mean()), float(inside.sum(1).mean()))
    return out


def folds(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> dict[float, tuple[float, float]]:
    """The same of out-of-fold predictions: networks of four fifths, chosen by a quarter of these."""
    own = parts(rng, y, (1 / FOLDS,) * FOLDS)
    shares, fold = np.zeros((len(y), int(y.max()) + 1)), np.zeros(len(y), int)
    for k, test in enumerate(own):
        rest = np.setdiff1d(np.arange(len(y)), test)
        train, val = (rest[p] for p in parts(rng, y[rest], (0.75, 0.25)))
        _, shares[test] = fitted(x, y, train, val, test)
        fold[test] = k
    out = {}
    for level in LEVELS:
        inside = np.zeros(shares.shape, bool)
        for k in range(FOLDS):
            least = least_probability(true_share(shares[fold != k], y[fold != k]), level)
            assert least is not None
            inside[fold == k] = members(shares[fold == k], least)
        out[level] = (float(inside[np.arange(len(y)), y].mean()), float(inside.sum(1).mean()))
    return out


def unknown(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, strangers: np.ndarray) -> tuple[float, float, float]:
    """(share of a left out class's images that are recognised, share of known images that are mistaken, share of strangers recognised)."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    train, val, test = parts(rng, y, (0.6, 0.2, 0.2))
    known = Known(train=unit[train], train_labels=y[train], val=unit[val], val_labels=y[val])
    least = least_probability(nearness(known.val, known.train), LEVEL)
    assert least is not None
    far = strangers / np.linalg.norm(strangers, axis=1, keepdims=True)
    left_out = recognised(known)
    return (
        float(np.mean([*left_out.values()])),
        float((nearness(unit[test], known.train) < least).mean()),
        float((nearness(far, known.train) < least).mean()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders of images, one a class")
    parser.add_argument("--work", required=True, type=Path, help="for what is computed once")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--splits", type=int, default=30)
    args = parser.parse_args()
    sets = {f.name: features_of(f, args.backbone, args.work) for f in args.folders}
    print(
        f"{'data':16s} {'images':>6s} {'classes':>7s} {'level':>6s}   one split: covers (sd)   classes a set   five folds: "
        "covers   classes a set"
    )
    for name, (x, y) in sets.items():
        found: dict[str, defaultdict[float, list[tuple[float, float]]]] = {"split": defaultdict(list), "folds": defaultdict(list)}
        for k in range(args.splits):
            rng = np.random.default_rng((7, k))
            for how, own in (("split", one_split(rng, x, y)), *((("folds", folds(rng, x, y)),) if k < args.splits // FOLDS else ())):
                for level, numbers in own.items():
                    found[how][level].append(numbers)
        for level in LEVELS:
            (cover, size), (cover_folds, size_folds) = (np.mean(found[how][level], axis=0) for how in ("split", "folds"))
            spread = np.std([c for c, _ in found["split"][level]])
            print(
                f"{name:16s} {len(y):6d} {int(y.max()) + 1:7d} {100 * level:5.0f} %   {100 * cover:8.1f} ({100 * spread:.1f})  "
                f"    {size:10.2f}      {100 * cover_folds:12.1f}   {size_folds:12.2f}",
                flush=True,
            )
    print(f"\n{'data':16s}   left-out class recognised   known ones mistaken   other data sets recognised")
    for name, (x, y) in sets.items():
        others = np.concatenate([o for other, (o, _) in sets.items() if other != name]) if len(sets) > 1 else np.zeros((0, x.shape[1]))
        numbers = np.mean([unknown(np.random.default_rng((8, k)), x, y, others) for k in range(args.splits)], axis=0)
        print(f"{name:16s}   " + "   ".join(f"{100 * v:18.1f} %" for v in numbers), flush=True)


if __name__ == "__main__":
    main()
