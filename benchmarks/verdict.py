"""Does the verdict keep its word? Simulated studies whose truth is known, judged by analysis.statistics.

Two strategies are drawn as per-image predictions with the noise seen in real runs: images of differing difficulty shared by
both, an interaction of strategy and image, a shift per seed, and chance per (seed, image). Under no difference both have the
same law; otherwise one is shifted until its true macro-F1 lies 0.5, 1, 2 or 4 points higher. Printed: how often a winner is
named when there is none, how often the 95 % interval holds the truth, and how often a true winner is found.
"""

import argparse
import json
from dataclasses import dataclass

import numpy as np

from analysis import statistics as st

CLASSES = 7
SHARE = np.array([0.14, 0.03, 0.14, 0.25, 0.17, 0.12, 0.15])  # FER2013's imbalance
GOAL_FALSE, GOAL_COVERAGE = 0.05, (0.93, 0.97)


@dataclass(frozen=True, kw_only=True)
class World:
    """Spread of the latent margin of an image: predicted right when it is above zero."""

    images: int = 750
    level: float = 0.45
    difficulty: float = 1.2  # between images, shared by both strategies
    interaction: float = 0.5  # strategy by image: systematic disagreement
    seed: float = 0.06  # between seeds: about 0.8 points of accuracy
    chance: float = 0.6  # per seed and image


def draw(world: World, shift: float, seeds: int, labels: np.ndarray, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Predictions of strategies A (shifted) and B, each [seeds][images]."""
    n = len(labels)
    hard = world.level + world.difficulty * rng.standard_normal(n)
    out = []
    for extra in (shift, 0.0):
        own = hard + extra + world.interaction * rng.standard_normal(n)
        runs = []
        for _ in range(seeds):
            margin = own + world.seed * rng.standard_normal() + world.chance * rng.standard_normal(n)
            wrong = (labels + 1 + rng.integers(CLASSES - 1, size=n)) % CLASSES
            runs.append(np.where(margin > 0, labels, wrong))
        out.append(runs)
    return out


def true_difference(world: World, shift: float) -> float:
    """Macro-F1 of A minus B over very many images and seeds."""
    rng = np.random.Generator(np.random.Philox(key=[1, 2]))
    labels = rng.choice(CLASSES, size=200_000, p=SHARE)
    total = np.zeros(2)
    for _ in range(4):
        a, b = draw(world, shift, 2, labels, rng)
        total += [np.mean([st.macro_f1(st.confusions(p, labels, CLASSES)) for p in runs]) for runs in (a, b)]
    return float(total[0] - total[1]) / 4


def shift_for(world: World, points: float) -> float:
    """The shift whose true difference is `points` / 100, by the secant rule; noise of the estimate cancels (same draws)."""
    zero = true_difference(world, 0.0)
    slope = (true_difference(world, 0.1) - zero) / 0.1
    shift = points / 100 / slope
    for _ in range(3):
        got = true_difference(world, shift) - zero
        shift *= points / 100 / got
    return shift


def simulate(world: World, points: float, seeds: int, studies: int, margin: float, resamples: int) -> dict[str, float]:
    shift = 0.0 if points == 0 else shift_for(world, points)
    rng = np.random.Generator(np.random.Philox(key=[int(points * 10) + 100, seeds]))
    claims = right = held = equal = 0
    for _ in range(studies):
        labels = rng.choice(CLASSES, size=world.images, p=SHARE)
        a, b = draw(world, shift, seeds, labels, rng)
        weights = st.image_weights(world.images, None, resamples, rng)
        ra, rb = (st.runs(p, labels, CLASSES, weights, world.images) for p in (a, b))
        d = st.compare(ra, rb).difference
        kind = st.decide(d, d.p, margin / 100).kind
        claims += kind in "ab"
        right += kind == "a"
        equal += kind == "equivalent"
        held += d.low <= points / 100 <= d.high
    return {
        "images": world.images,
        "true_points": points,
        "seeds": seeds,
        "named_a_winner": claims / studies,
        "named_the_right_one": right / studies,
        "said_equivalent": equal / studies,
        "coverage": held / studies,
        "studies": studies,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=400, help="simulated studies a row; the rates' standard error is about 1 / (2 sqrt)")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--margin", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    print("images  true points  seeds  named a winner  the right one  equivalent  coverage of 95 %")
    for images in (750, 3500):
        for points in (0.0, 0.5, 1.0, 2.0, 4.0):
            for seeds in (3, 5, 10, 20):
                if images == 3500 and (points not in (0.0, 1.0, 2.0) or seeds not in (3, 5, 10)):
                    continue
                studies = args.studies * (3 if points == 0 else 1)  # the rate that matters most gets the most studies
                row = simulate(World(images=images), points, seeds, studies, args.margin, args.resamples)
                rows.append(row)
                print(
                    f"{images:6d}  {points:11.1f}  {seeds:5d}  {row['named_a_winner']:14.3f}  {row['named_the_right_one']:13.3f}  {row['said_equivalent']:10.3f}  {row['coverage']:16.3f}",
                    flush=True,
                )
    null = [r for r in rows if r["true_points"] == 0]
    weight = np.array([r["studies"] for r in null])
    false = float(np.average([r["named_a_winner"] for r in null], weights=weight))
    coverage = float(np.average([r["coverage"] for r in rows], weights=[r["studies"] for r in rows]))
    met = false <= GOAL_FALSE and GOAL_COVERAGE[0] <= coverage <= GOAL_COVERAGE[1]
    print(
        f"false claims under no difference {false:.3f} (goal <= {GOAL_FALSE}), coverage {coverage:.3f} (goal in {GOAL_COVERAGE}): {'met' if met else 'MISSED'}"
    )
    if args.json:
        print(json.dumps({"false_claim_rate": false, "coverage": coverage, "power": rows}))


if __name__ == "__main__":
    main()
