"""Does the interval of a crossing hold it, and is none claimed where there is none? Simulated studies over five sizes, as predictions.

    python -m benchmarks.sizes [--studies 200]

Two strategies cross at 150 images, with a slope and a number of seeds. Then come two that are equal, and two far apart. It prints a
table and, last, one object.
"""

import argparse
import json
import math

import numpy as np

from analysis.statistics import resampling as st
from analysis.statistics.crossing import Crossing, Point, crossing, minus
from analysis.statistics.scored_runs import score_runs
from study.scoring import DEFAULT

SIZES = np.array([50, 100, 200, 400, 800])
AT = 150
CLASSES = 5
RISING = 0.35 * np.log(SIZES / 200)


def simulate(curves: list[np.ndarray], rng: np.random.Generator, seeds: int = 5, images: int = 300) -> list[list[Point]]:
    """Draw strategies whose latent margin at each size is `curves` [M]: seeds move all sizes, images move all runs.

    Errors fall on all classes alike, so that equal margins give equal scores.
    """
    labels = rng.integers(0, CLASSES, images)
    hard, weights = rng.standard_normal(images), st.image_weights(images, None, 100, np.random.default_rng(1))
    training = 0.15 * rng.standard_normal((seeds, len(SIZES)))  # which images were labelled: alike for all strategies
    out = []
    for curve in curves:
        own, taste = 0.12 * rng.standard_normal((seeds, 1)), 0.4 * rng.standard_normal(images)
        points = []
        for m, level in enumerate(curve):
            said = []
            for k in range(seeds):
                margin = level + training[k, m] + own[k, 0] + hard + taste + 0.6 * rng.standard_normal(images)
                said.append(np.where(margin > 0, labels, (labels + rng.integers(1, CLASSES, images)) % CLASSES))
            runs = score_runs(said, np.zeros(seeds, int), labels, CLASSES, weights, st.image_units(images, None), (DEFAULT.name,))
            points.append(Point(place=float(SIZES[m]), keys=tuple((k, 0) for k in range(seeds)), runs=runs[DEFAULT.name]))
        out.append(points)
    return out


def study(slope: float, apart: float, rng: np.random.Generator, seeds: int = 5) -> Crossing:
    """Return the crossing of two strategies whose margins differ by `slope` times log(n / AT), and by `apart` everywhere."""
    half = (slope * np.log(SIZES / AT) + apart) / 2
    a, b = simulate([RISING + half, RISING - half], rng, seeds)
    return crossing([minus(x, y) for x, y in zip(a, b, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizes", description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    count = parser.parse_args().studies
    out = {}
    print("case                        holds it   crosses  unclear     none   high / low (median)")
    for name, slope, apart, seeds in (
        ("slope 0.35, 5 seeds", 0.35, 0.0, 5),
        ("slope 0.5, 3 seeds", 0.5, 0.0, 3),
        ("slope 0.5, 5 seeds", 0.5, 0.0, 5),
        ("slope 0.5, 10 seeds", 0.5, 0.0, 10),
        ("equal, 5 seeds", 0.0, 0.0, 5),
        ("far apart, 5 seeds", 0.0, 1.0, 5),
    ):
        rng = np.random.default_rng(7)
        found = [study(slope, apart, rng, seeds) for _ in range(count)]
        share = {k: sum(c.kind == k for c in found) / count for k in ("crosses", "unclear", "none")}
        holds = sum(c.low <= AT <= c.high for c in found) / count if slope else None
        wide = [math.log(c.high / c.low) for c in found if c.kind != "none"]
        ratio = math.exp(float(np.median(wide))) if wide else None
        out[name] = {"holds": holds, **share, "ratio": ratio}
        shown = ["-" if v is None else f"{v:.3f}" for v in (holds, *share.values(), ratio)]
        print(f"{name:26s}" + "".join(f"{v:>10s}" for v in shown))
    print(json.dumps(out))


if __name__ == "__main__":
    main()
