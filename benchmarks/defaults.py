"""The learning rates that each strategy needs: the pilot behind the published defaults and ranges of study/strategies.

    python -m benchmarks.defaults --data DATA --json

Every strategy gets a half-decade grid of the same number of learning rates, with everything else at its default and fresh augmented
images in every epoch (`views = 0`). The score is the validation macro-F1 of the kept epoch, the mean over seeds. Nothing is chosen
here. The table shows the best learning rate on each data set, the loss of the default against it, and whether the best lies at an end
of the range that a study searches.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import arguments
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.question.which_epoch import kept_epoch
from study.run import open_inputs
from study.space import Log, domains
from study.storage.places import Places
from study.strategies import STRATEGIES
from study.training.divergence import DivergedError
from study.training.loop import fine_tune

LEARNING_RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # half decades
OF_A_HEAD_ALONE = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)  # which takes larger ones
PROTOCOLS = {  # as quickstart and pilot have them
    "mini_faces": Protocol(max_epochs=3, image_size=48, views=0, train_eval_images=32),
    "mini_weeds": Protocol(max_epochs=3, image_size=48, views=0, train_eval_images=32),
    "fer2013": Protocol(max_epochs=5, image_size=64, views=0, train_eval_images=32),
    "deepweeds": Protocol(max_epochs=5, image_size=64, views=0, train_eval_images=32),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One strategy on one data set: mean validation macro-F1 of the kept epoch by learning rate (0 for a run that diverged)."""

    dataset: str
    strategy: str
    scores: dict[float, float]

    @property
    def best(self) -> float:
        return max(self.scores, key=lambda lr: self.scores[lr])

    @property
    def loss(self) -> float:
        """Return the loss of the default against the best of the grid, in shares. The default has the score of its nearest neighbour."""
        default = TrialConfig.default(
            Cell(dataset=self.dataset, backbone="efficientnet_lite0", strategy=self.strategy), Protocol()
        ).strategy.lr  # type: ignore[attr-defined]
        nearest = min(self.scores, key=lambda lr: abs(lr / default - 1) if lr > default else abs(default / lr - 1))
        return self.scores[self.best] - self.scores[nearest]

    @property
    def position(self) -> float:
        """Return the position of the best learning rate within the searched range, 0 to 1 on its axis."""
        domain = domains(STRATEGIES[self.strategy])["lr"]
        assert isinstance(domain, Log)
        return domain.position(self.best)


def score(config: TrialConfig, data: str | None) -> float:
    try:
        kept = kept_epoch(config.protocol, [record for record, _ in fine_tune(config, open_inputs(config, Places(folder="", data=data)))])
    except DivergedError:
        return 0.0
    return kept.objective if kept else 0.0


def measure(args: argparse.Namespace) -> Iterator[Row]:
    for dataset in args.datasets:
        fraction = args.faces_fraction if dataset == "fer2013" else 1.0
        for strategy in args.strategies:
            cell = Cell(dataset=dataset, backbone=args.backbone, strategy=strategy, train_fraction=fraction)
            scores = {}
            for lr in OF_A_HEAD_ALONE if strategy == "linear_probe" else LEARNING_RATES:
                published = [TrialConfig.default(cell, PROTOCOLS[dataset], seed) for seed in range(args.seeds)]
                at_rate = ((c, dataclasses.replace(c.strategy, lr=lr)) for c in published)  # type: ignore[call-arg]
                configs = [dataclasses.replace(c, strategy=own) for c, own in at_rate]
                scores[lr] = statistics.fmean(score(c, args.data) for c in configs)
            yield Row(dataset=dataset, strategy=strategy, scores=scores)


def main() -> None:
    parser = arguments.parser(__doc__, "--data", "--backbone", "--json")
    parser.add_argument("--datasets", nargs="+", default=list(PROTOCOLS), choices=list(PROTOCOLS))
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--faces-fraction", type=float, default=0.25, help="of FER2013's training images")
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    rows = []
    print(f"{args.backbone}, {args.seeds} seeds. Validation macro-F1 in points by learning rate")
    for row in measure(args):
        rows.append(row)
        cells = "  ".join(f"{lr:.0e} {100 * s:4.1f}" for lr, s in row.scores.items())
        print(
            (
                f"{row.dataset:10s} {row.strategy:12s} {cells}  best at {row.best:.0e} ({row.position:.2f} of its range), "
                f"default loses {100 * row.loss:.1f}"
            ),
            flush=True,
        )
    if args.json:
        print(json.dumps([{**dataclasses.asdict(r), "best": r.best, "loss": r.loss, "position": r.position} for r in rows]))


if __name__ == "__main__":
    main()
