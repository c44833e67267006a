"""Verdicts taken back by longer training or by larger images: the same study three times.

    python -m benchmarks.budgets --data DATA --more FOLDER... --work WORK --epochs 15 --size 64
    python -m benchmarks.budgets --table WORK

Every data set is asked the same question (`linear_probe`, `partial`, `full`, and the line to beat where there is one) three times, with
the same settings, seeds and test images: with E epochs and S pixels, with 3 E epochs, and with 2 S pixels.

A claim of the first study is a pair of strategies of which one is named better, or both equal, or it is the strategy that can be taken
without a loss worth having. It is taken back where the larger study has the named loser ahead, or where its 95 % interval leaves no
room for the claim. A larger study that is itself undecided does not count against a claim.

WORK holds the studies, and is continued where it was left. This file needs nothing else of `benchmarks`: to measure an older version,
copy it into that checkout and give it a folder of its own.
"""

import argparse
import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import arguments
from study.datasets import open_dataset
from study.question.cell import grid
from study.question.naming import DataName
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.results import Results, run_study

STRATEGIES = ("linear_probe", "partial", "full")
BASE = "ES"
SIZES = {BASE: (1, 1), "3E": (3, 1), "2S": (1, 2)}
"""Sizes of the studies by name: (factor of the epochs, factor of the pixels)."""
MINIATURES = ("mini_weeds", "mini_faces")


def main() -> None:
    parser = arguments.parser(__doc__, "--data", "--weights", "--backbone", "--more")
    parser.add_argument("--datasets", nargs="*", default=["deepweeds", "fer2013", *MINIATURES])
    parser.add_argument("--epochs", type=int, default=15, help="E")
    parser.add_argument("--size", type=int, default=64, help="S, in pixels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=400, help="training images, at most")
    parser.add_argument("--work", type=Path, help="folder of the studies, filled up where it was left")
    parser.add_argument(
        "--table", nargs="*", type=Path, metavar="WORK", help="print the table of what these folders hold, and train nothing"
    )
    args = parser.parse_args()
    if args.table is not None:
        print("\n".join(line for work in args.table for line in table(work)))
        return
    for name in arguments.datasets(args):
        for size in SIZES:
            run = run_study(study_of(name, size, args), results=args.work / size, data=args.data, weights=args.weights, local=True)
            (args.work / "said").mkdir(exist_ok=True)
            (args.work / "said" / f"{run.study.name} {size}.json").write_text(json.dumps(said(run)))
    print("\n".join(table(args.work)))


def study_of(dataset: str, size: str, args: argparse.Namespace) -> Study:
    """Return the question at one size. Budgets are not lengthened, since the verdict at E epochs is what is judged."""
    data = DataName.parse(dataset)
    train = open_dataset(data.dataset, splits=data.splits, root=Path(args.data) if args.data else None).counts()["train"]
    times, pixels = SIZES[size]
    epochs = times * args.epochs
    short = {"longest": 1, "budget_check": 3 if size == BASE else 0}
    return Study(
        name=data.short,
        cells=grid([dataset], [args.backbone], list(STRATEGIES), (min(1.0, round(args.images / sum(train), 3)),)),
        protocol=Protocol(max_epochs=epochs, image_size=pixels * args.size, views=epochs),
        trials=1,
        random_trials=0,
        confirm_seeds=args.seeds,
        **{k: v for k, v in short.items() if k in {f.name for f in dataclasses.fields(Study)}},
    )


def said(run: Results) -> dict[str, Any]:
    """Return the results of a study: its scores, the verdict and difference of every pair, and its sentence."""
    means = run.strategies[run.strategies.metric == "macro_f1"]
    protocol = run.study.protocol
    return {
        "data": run.study.name,
        "epochs": protocol.max_epochs,
        "size": protocol.image_size,
        "seeds": run.study.confirm_seeds,
        "margin": run.study.margin / 100,
        "scores": dict(zip(means.strategy, means["mean"], strict=True)),
        "pairs": run.pairs[["a", "b", "verdict", "winner", "difference", "low", "high"]].to_dict("records"),
        "sentence": " ".join(run.verdicts.sentence),
    }


# ---- which claims a larger study takes back -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of a study. `kind` is the verdict's kind, or "take": no other strategy is better than `a` by more than the margin."""

    kind: str
    a: str
    b: str = ""

    @property
    def text(self) -> str:
        if self.kind == "take":
            return f"take {self.a}"
        return f"{self.a} and {self.b} equal" if self.kind == "equivalent" else f"{self.a} over {self.b} ({self.kind.replace('_', ' ')})"

    def taken_back(self, study: dict[str, Any]) -> bool:
        """Return True where the larger study has the loser ahead, or leaves no room for the claim.

        Pairs that it lacks take nothing back.
        """
        margin = study["margin"]
        if self.kind == "take":
            return any(_difference(study, other, self.a)[1] > margin for other in study["scores"] if other != self.a)
        mean, low, high = _difference(study, self.a, self.b)
        if self.kind == "equivalent":
            return low > margin or high < -margin
        return mean < 0 or (self.kind == "beats" and high < margin) or (self.kind == "better_by_little" and low > margin)


def claims(study: dict[str, Any]) -> list[Claim]:
    found = [
        Claim(kind=p["verdict"], a=p["b"] if p["winner"] == p["b"] else p["a"], b=p["a"] if p["winner"] == p["b"] else p["b"])
        for p in study["pairs"]
        if p["verdict"] in ("beats", "better", "better_by_little", "equivalent")
    ]
    taken = re.findall(r"\b[Tt]ake (\w+)", study["sentence"])
    return [*found, *(Claim(kind="take", a=name) for name in dict.fromkeys(taken) if name in study["scores"])]


def _difference(study: dict[str, Any], a: str, b: str) -> tuple[float, float, float]:
    """Return A minus B and its 95 % interval, NaN where the study has no such pair."""
    for p in study["pairs"]:
        if (p["a"], p["b"]) == (a, b):
            return p["difference"], p["low"], p["high"]
        if (p["a"], p["b"]) == (b, a):
            return -p["difference"], -p["high"], -p["low"]
    return 0.0, -math.inf, math.inf


def table(work: Path) -> Iterator[str]:
    """Yield one row per data set, and the number of claims taken back over all of them."""
    yield f"| data ({work.name}) | E, S | claims | scores at E, S | at 3 E | at 2 S | taken back by 3 E | by 2 S |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    count = Counter[str]()
    for path in sorted((work / "said").glob(f"* {BASE}.json")):
        found = {k: json.loads(p.read_text()) for k in SIZES if (p := path.with_name(path.name.replace(BASE, k))).exists()}
        base, own = found[BASE], claims(found[BASE])
        back = {k: [c.text for c in own if c.taken_back(found[k])] if k in found else None for k in SIZES if k != BASE}
        for k, texts in back.items():
            count[k] += len(texts or ())
            count[f"of {k}"] += len(own) if texts is not None else 0
        scores = [", ".join(f"{s} {100 * v:.1f}" for s, v in found[k]["scores"].items()) if k in found else "" for k in SIZES]
        shown = ["not run" if texts is None else "; ".join(texts) or "none" for texts in back.values()]
        cells = [base["data"], f"{base['epochs']}, {base['size']} px", "; ".join(c.text for c in own) or "none", *scores, *shown]
        yield f"| {' | '.join(cells)} |"
    every = [f"{count[k]} of {count['of ' + k]}" for k in SIZES if k != BASE]
    yield f"| all | | | | | | {' | '.join(every)} |"


if __name__ == "__main__":
    main()
