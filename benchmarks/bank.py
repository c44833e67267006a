"""Does the verdict keep its word on real images? Whole studies drawn from banks of real trainings (benchmarks/trainings.py).

    python -m benchmarks.bank --data DATA --bank BANK.npz --studies 2000 --json

A drawn study searches: of some of a strategy's configurations with a seed, the best on validation wins. Then it confirms the winner
with fresh seeds. Its runs are judged as benchmarks/verdict.py judges simulated ones: by the analysis, and by the former protocol beside
it. A strategy against itself, searched twice, must not be called different. Without --data only the trainings in the bank are used.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import arguments
from benchmarks.trainings import Bank, fill, load_banks
from benchmarks.verdict import table
from benchmarks.verdict_cases import Case
from benchmarks.worlds import Sample, Searched, Split
from study.metrics import counts, macro_f1

TRAININGS = ("deepweeds/linear_probe:8x10", "deepweeds/partial:8x10")
CONFIRMED = 5  # runs of a strategy


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The size of one search of a strategy."""

    trials: int
    default: bool  # whether the published default is one of them, as in the product; the rest is drawn without replacement

    def draw(self, val: np.ndarray, rng: np.random.Generator) -> int:
        """Draw a search and return its winner by the validation scores [C] at the search's seed."""
        drawn = rng.choice(np.arange(self.default, len(val)), self.trials - self.default, replace=False)
        tried = np.concatenate([[0], drawn]).astype(int) if self.default else drawn
        return int(tried[val[tried].argmax()])

    def chances(self, val: np.ndarray) -> np.ndarray:
        """Return [C] the probability that each configuration wins, exact for scores without ties."""
        first, n = int(self.default), self.trials - self.default
        out = np.zeros(len(val))
        for c in range(first, len(val)):
            below = int((val[first:] < val[c]).sum())
            out[c] = math.comb(below, n - 1) / math.comb(len(val) - first, n) if n else 0.0
        if self.default:
            out[val <= val[0]] = 0
            out[0] = 1 - out.sum()
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Confirmed:
    """The confirm runs of a strategy."""

    search: np.ndarray  # [K] whose winner it is
    config: np.ndarray  # [K]
    seed: np.ndarray  # [K]
    searched: np.ndarray  # [R] the searches' seeds


def confirm(bank: Bank, tuning: Tuning, searches: int, fresh: np.ndarray, rng: np.random.Generator) -> Confirmed:
    """Draw searches, each with a seed that is not in `fresh` [K], and confirm them: run k has the winner of search k mod R and seed
    fresh[k].
    """
    seeds = rng.choice(np.setdiff1d(np.arange(bank.val.shape[1]), fresh), searches, replace=False)
    winners = np.array([tuning.draw(bank.val[:, s], rng) for s in seeds])
    search = np.arange(len(fresh)) % searches
    return Confirmed(search=search, config=winners[search], seed=fresh, searched=seeds)


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """Studies of two strategies, or of one against itself, in the form of a world of benchmarks/worlds.py."""

    banks: tuple[Bank, Bank]
    tuning: Tuning
    anew: bool  # each study has its own test images, drawn from the bank's with replacement; else all of them

    @property
    def alike(self) -> bool:
        return self.banks[0] is self.banks[1]

    @cached_property
    def _scores(self) -> np.ndarray:
        return np.array([spread(b, self.tuning)["mean"] for b in self.banks])

    def scores(self, study: int) -> np.ndarray:
        """Return the true scores by strategy: means over all searches, fresh seeds and images of the banks."""
        return self._scores

    def sides(self, study: int, searches: int, seeds: int) -> tuple[Confirmed, Confirmed]:
        """Return the confirm runs of both sides.

        Two strategies confirm with the same seeds, as in a study. The halves of one strategy have different seeds, so no run is in
        both.
        """
        rng, runs = np.random.default_rng((72, study)), searches * seeds
        order = rng.permutation(min(b.val.shape[1] for b in self.banks))
        fresh = (order[:runs], order[runs : 2 * runs] if self.alike else order[:runs])
        a, b = (confirm(bank, self.tuning, searches, f, rng) for bank, f in zip(self.banks, fresh, strict=True))
        return a, b

    def draw(self, study: int, searches: int, seeds: int, images: int | None = None) -> Sample:
        a, b = self.sides(study, searches, seeds)
        labels = self.banks[0].labels
        rows = np.random.default_rng((73, study)).integers(0, len(labels), images or len(labels)) if self.anew else np.arange(len(labels))
        said = [bank.predicted[side.config, side.seed][:, rows] for bank, side in zip(self.banks, (a, b), strict=True)]
        split = Split(predicted=said, labels=labels[rows], groups=None, classes=int(labels.max()) + 1)
        return Sample(search=a.search, splits=[split])

    def searched(self, study: int, searches: int, seeds: int) -> Searched:
        """Return what validation tells of the runs. A bank has only the kept epoch's score, and not whether a run collapsed."""
        sides = zip(self.banks, self.sides(study, searches, seeds), strict=True)
        return Searched(over_search=[b.val[s.config, s.seed] - b.val[s.config, s.searched[s.search]] for b, s in sides], lost=None)


def spread(bank: Bank, tuning: Tuning) -> dict[str, float]:
    """Return as shares the mean test score of a winner's fresh run, and its sd between searches' winners and between seeds of one."""
    classes, seeds = int(bank.labels.max()) + 1, bank.val.shape[1]
    test = np.array([[float(macro_f1(counts(p, bank.labels, classes))) for p in own] for own in bank.predicted])
    wins = np.stack([tuning.chances(bank.val[:, s]) for s in range(seeds)])  # [S, C]
    others = (test.sum(axis=1)[:, None] - test) / (seeds - 1)  # [C, S] mean over the seeds that are not the search's
    mean = float((wins * others.T).sum() / seeds)
    within = np.var(test, axis=1, ddof=1)
    share = wins.mean(axis=0)
    between = float((share * (test.mean(axis=1) - mean) ** 2).sum() - (share * within).sum() / seeds)
    return {"mean": mean, "sd_searches": math.sqrt(max(between, 0.0)), "sd_seeds": math.sqrt(float((share * within).sum()))}


# ---- all worlds -----------------------------------------------------------------------------------------

PROTOCOLS = (  # name, searches, tuning of each, tuning of the former protocol's one search
    ("5 x 2 trials", 5, Tuning(trials=2, default=True), Tuning(trials=6, default=True)),
    ("5 x 3 random", 5, Tuning(trials=3, default=False), Tuning(trials=3, default=False)),
    ("1 x 6 trials", 1, Tuning(trials=6, default=True), Tuning(trials=6, default=True)),
)


def real_cases(banks: Mapping[str, Bank]) -> Iterator[Case]:
    """Yield each strategy against itself and against each other one of its data set. One search speaks of two configurations only."""
    pairs = [(a, a) for a in banks] + [(a, b) for a, b in combinations(banks, 2) if a.split("/")[0] == b.split("/")[0]]
    for anew in (False, True):
        for protocol, searches, tuning, before in PROTOCOLS:
            for a, b in pairs:
                both, name = (banks[a], banks[b]), f"{a} twice" if a == b else f"{a} - {b.split('/')[1]}"
                yield Case(
                    name=f"{name}, {protocol}{', new images' * anew}",
                    world=Drawn(banks=both, tuning=tuning, anew=anew),
                    before=Drawn(banks=both, tuning=before, anew=anew),
                    searches=searches,
                    seeds=CONFIRMED // searches,
                    wide=not anew,  # the interval allows for other images than these, and they are always the same
                    told_apart=searches > 1,
                )


def usable(banks: Mapping[str, Bank]) -> dict[str, Bank]:
    """Return the complete rows and columns of the banks with enough configurations for a search and enough seeds for two halves."""
    most = max(t.trials for _, _, *both in PROTOCOLS for t in both)
    found = {name: bank.whole() for name, bank in banks.items()}
    return {name: bank for name, bank in found.items() if len(bank.val) >= most and bank.val.shape[1] >= 2 * CONFIRMED}


def _size(text: str) -> tuple[str, tuple[int, int]]:
    found = re.fullmatch(r"(\w+/\w+):(\d+)x(\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no DATASET/STRATEGY:CONFIGURATIONSxSEEDS, as in deepweeds/partial:8x10")
    return found[1], (int(found[2]), int(found[3]))


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--bank", type=Path, required=True, help="the file of trainings; made, or filled up, where --data is given")
    parser.add_argument("--data", help="folder that holds deepweeds/ and fer2013/")
    parser.add_argument("--train", nargs="+", type=_size, default=[_size(t) for t in TRAININGS], metavar="DATASET/STRATEGY:CxS")
    parser.add_argument("--studies", type=int, default=2000, help="drawn a world; a rate's standard error is at most 1 / (2 sqrt)")
    parser.add_argument("--only", default="", help="worlds whose name contains this")
    args = parser.parse_args()
    for line in fill(args.bank, dict(args.train), args.data) if args.data else ():
        print(line, file=sys.stderr, flush=True)
    banks = usable(load_banks(args.bank))
    if not banks:
        raise SystemExit(f"{args.bank} holds no strategy with {2 * CONFIRMED} seeds of enough configurations; give --data to train them")
    known: dict[str, Any] = {}
    for name, bank in banks.items():
        known[name] = {p: spread(bank, tuning) for p, _, tuning, _ in PROTOCOLS}
        print(f"{name}: {bank.val.shape[0]} configurations x {bank.val.shape[1]} seeds, {len(bank.labels)} test images; points:")
        for p, s in known[name].items():
            print(
                f"    {p}: mean {100 * s['mean']:.1f}, sd between searches {100 * s['sd_searches']:.1f}, between seeds "
                f"{100 * s['sd_seeds']:.1f}"
            )
    found = table([c for c in real_cases(banks) if args.only in c.name], args.studies)
    if args.json:
        print(json.dumps({"studies": args.studies, "banks": known, "worlds": found, "met": not any(r["missed"] for r in found.values())}))


if __name__ == "__main__":
    main()
