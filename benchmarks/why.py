"""Explanations wrongly called supported or contradicted: two strategies that do not differ, or that do not differ by its reason.

    python -m benchmarks.why --studies 2000 --json

Studies are made up, each with all measures of all three explanations. "Alike" is a strategy against itself, so any verdict is wrong.
"Measures alone": measures differ as claimed, scores do not, and scores of trials do not go with it. "No relation": measures and scores
differ as claimed, and still scores of trials do not go with it. "As explained": they do, so "supported" is right.

Beside the present rule stands the former one: Holm within each explanation, the sign of the relation alone, and the distance after one
epoch as a measure like others.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.resampling import holm
from analysis.why.contrasts import ALPHA, Contrast, contrast
from analysis.why.explanations import Relation, adjusted, judge, relation_of
from analysis.why.measures import EXPLANATIONS, Explanation

NOISES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {  # each of variance about 1
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails (t3)": lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3),
    "skewed (log-normal)": lambda rng, shape: (rng.lognormal(size=shape) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e),
    "15 % collapse": lambda rng, shape: rng.standard_normal(shape) / 2 - 2.4 * (rng.random(shape) < 0.15),
}
COMMON = 0.5  # correlation of two measures of one run


@dataclass(frozen=True, kw_only=True)
class World:
    """A kind of studies. Measures differ as claimed by `moved` standard deviations of a run, scores by `better`; `relation`: of trials."""

    name: str
    units: int = 5
    noise: str = "normal"
    moved: float = 0.0
    better: float = 0.0
    relation: float = 0.0
    trials: int = 12
    right: str = ""  # the verdict that is no mistake


WORLDS = (
    *(World(name="alike", units=u, noise=n) for n in NOISES for u in (3, 5, 10)),
    *(World(name="measures alone", units=u, moved=3.0) for u in (5, 10)),
    *(World(name="no relation", units=u, moved=3.0, better=3.0, trials=t) for u in (5, 10) for t in (8, 12, 40)),
    *(
        World(name="as explained", units=5, moved=3.0, better=3.0, relation=r, trials=t, right="supported")
        for r in (0.5, 0.8)
        for t in (12, 40)
    ),
)


def study(world: World, rng: np.random.Generator) -> tuple[list[tuple[Explanation, list[Contrast]]], Contrast, Relation]:
    """One study's contrasts by explanation, that of the score, and how its trials go."""
    measures = [m for e in EXPLANATIONS for m in e.measures]
    draw = NOISES[world.noise]

    def side() -> np.ndarray:
        return math.sqrt(COMMON) * draw(rng, (1, world.units)) + math.sqrt(1 - COMMON) * draw(rng, (len(measures), world.units))

    less, more = side(), side()
    made = {m.name: contrast(a + world.moved * m.claim, b, m) for m, a, b in zip(measures, less, more, strict=True)}
    score = contrast(draw(rng, (world.units,)) + world.better, draw(rng, (world.units,)))
    far, scores, given = rng.standard_normal((3, world.trials))
    scores = -world.relation * far + math.sqrt(1 - world.relation**2) * scores
    return [(e, [made[m.name] for m in e.measures]) for e in EXPLANATIONS], score, relation_of(far, scores + given, given)


def verdicts(found: Sequence[tuple[Explanation, list[Contrast]]], score: Contrast, relation: Relation) -> list[str]:
    return [_verdict(e, own, score, relation) for e, own in adjusted(found)]


def _verdict(explanation: Explanation, own: Sequence[Contrast], score: Contrast, relation: Relation) -> str:
    """Return the verdict. Where no measure differs it is undecided, since `judge` takes long to say how many runs would show one."""
    return judge(explanation, own, score, relation, "less", "more")[0] if any(c.direction for c in own) else "undecided"


def verdicts_before(found: Sequence[tuple[Explanation, list[Contrast]]], score: Contrast, relation: Relation) -> list[str]:
    """Return the verdicts of the former rule."""
    out = []
    for _, own in found:
        signs = {np.sign(c.mean) * c.measure.claim for c, p in zip(own, holm([c.p for c in own]), strict=True) if p < ALPHA}
        if signs == {-1} or (signs == {1} and score.high < 0):
            out.append("contradicted")
        else:
            out.append("supported" if signs == {1} and score.low > 0 and relation.value < 0 else "undecided")
    return out


def measure(world: World, studies: int, seed: int = 0) -> dict[str, object]:
    """Return the shares of studies in which some explanation is called supported or contradicted, and wrongly so."""
    rng = np.random.default_rng([seed, *world.name.encode(), world.units, world.trials])
    rules = {"now": verdicts, "before": verdicts_before}
    said: dict[str, list[list[str]]] = {name: [] for name in rules}
    for _ in range(studies):
        own = study(world, rng)
        for name, rule in rules.items():
            said[name].append(rule(*own))
    row: dict[str, object] = {
        "world": world.name,
        "units": world.units,
        "noise": world.noise,
        "trials": world.trials,
        "relation": world.relation,
    }
    for name, all_of in said.items():
        wrong = [any(v in ("supported", "contradicted") and v != world.right for v in own) for own in all_of]
        row[f"wrong, {name}"] = round(100 * float(np.mean(wrong)), 1)
        row[f"supported, {name}"] = round(100 * float(np.mean(["supported" in own for own in all_of])), 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--json", action="store_true", help="a JSON object a row")
    args = parser.parse_args()
    for world in WORLDS:
        row = measure(world, args.studies)
        print(json.dumps(row) if args.json else "  ".join(f"{k} {v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
