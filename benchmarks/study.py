"""A whole small search: seconds and image passes until its winner, with early stopping and without, and the risk of stopping.

    python -m benchmarks.study --trials 24 --epochs 27 --plain --json

The product searches first. The trials it asked for are then trained again to their end: by the product with nothing stopped, and with
--plain by a Tuner over TorchTrainers as Ray's guide shows it (benchmarks/plain_ray.py). Each of these is a process of its own with an
empty cache, two trials at a time. Regret is the macro-F1, under full training, of the best trial minus that of the search's winner.

One search is one draw. With the full curves at hand it is replayed in hundreds of other orders under several rules, with successive
halving as in the product. `never stopped` counts the random trials at its start, which the product leaves alone for the sake of
unbiased tuning curves (`Study.random_trials`): the more of them, the less there is to save.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import SuccessiveHalvingPruner

from benchmarks import arguments, plain_ray
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.question.which_epoch import kept_epoch
from study.records import Ask, Outcome, dumps
from study.search.selection import select
from study.tracking.ledger import Ledger

GOAL = 3.0  # times fewer image passes


@dataclass(frozen=True, kw_only=True)
class Searched:
    """The cost and the result of one way to search."""

    seconds: float
    until_winner: float  # seconds from its start until its winner had ended
    images: int
    winner: str
    score: float


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"STUDY_CACHE": str(folder / "cache"), "PYTHONPATH": os.getcwd()}


def by_product(study: Study, folder: Path, asks: list[Ask] | None = None) -> tuple[Searched, Ledger]:
    folder.mkdir()
    (folder / "study.json").write_text(dumps(study.as_dict()))
    command = [sys.executable, "-m", "benchmarks.searches", str(folder / "study.json"), str(folder / "results")]
    if asks is not None:
        (folder / "asks.json").write_text(dumps([a.as_dict() for a in asks]))
        command.append(str(folder / "asks.json"))
    began, clock = time.time(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment(folder))
    seconds = time.perf_counter() - clock
    assert done.returncode == 0, done.stderr[-2000:]
    ledger = Ledger(folder / "results", study.name)
    results = ledger.results()
    failed = [r.reason for r in results.values() if r.outcome is Outcome.FAILED]
    assert not failed and len(results) == study.trials, f"{len(results)} of {study.trials} trials ended, {failed[:1]}"
    _, chosen = select([(a, results[a.trial_id]) for a in ledger.asks()])
    winner = results[chosen[study.cells[0].id]]
    images = sum(r.images for r in results.values())
    searched = Searched(
        seconds=seconds, until_winner=winner.ended_at - began, images=images,
        winner=winner.trial_id, score=score_of(ledger, winner.trial_id),
    )  # fmt: skip
    return searched, ledger


def by_plain_ray(asks: list[Ask], folder: Path) -> Searched:
    began, clock = time.time(), time.perf_counter()
    rows = plain_ray.run([a.config for a in asks], folder, workers=1, at_once=2, env=environment(folder))
    seconds = time.perf_counter() - clock
    best = max(range(len(rows)), key=lambda k: rows[k]["score"])
    return Searched(
        seconds=seconds, until_winner=rows[best]["ended"] - began, images=sum(r["images"] for r in rows), winner=asks[best].trial_id,
        score=rows[best]["score"],
    )  # fmt: skip


def score_of(ledger: Ledger, trial_id: str) -> float:
    ask = ledger.ask(trial_id)
    kept = kept_epoch(TrialConfig.from_dict(ask.config).protocol, ledger.epochs(trial_id)) if ask else None
    return kept.objective if kept else 0.0


def curves(ledger: Ledger, epochs: int) -> np.ndarray:
    """Return validation macro-F1 [trials, epochs]. A trial that diverged keeps its last score, since its budget is spent."""
    rows = []
    for ask in ledger.asks():
        seen = [e.objective for e in ledger.epochs(ask.trial_id)] or [0.0]
        rows.append(seen + [seen[-1]] * (epochs - len(seen)))
    return np.array(rows)


def replay(scores: np.ndarray, grace: int, factor: int, first_random: int, workers: int, rng: np.random.Generator) -> tuple[int, float]:
    """Return (epochs spent, regret) of one search in a random order, `workers` trials at a time, `first_random` never stopped."""
    study = optuna.create_study(direction="maximize", pruner=SuccessiveHalvingPruner(min_resource=grace, reduction_factor=factor))
    queue, spent, best, asked = list(rng.permutation(len(scores))), 0, 0, 0
    running: list[tuple[optuna.Trial, int, bool]] = []
    epochs: dict[int, int] = {}
    while queue or running:
        while queue and len(running) < workers:
            running.append((study.ask(), queue.pop(0), asked < first_random))
            asked += 1
        for slot in list(running):
            trial, row, safe = slot
            epochs[row] = epoch = epochs.get(row, 0) + 1
            spent += 1
            trial.report(float(scores[row, epoch - 1]), epoch)
            done = epoch == scores.shape[1]
            if done or (trial.should_prune() and not safe):
                state = optuna.trial.TrialState.COMPLETE if done else optuna.trial.TrialState.PRUNED
                study.tell(trial, float(scores[row, -1]) if done else None, state=state)
                running.remove(slot)
    best = max(epochs, key=lambda row: scores[row, epochs[row] - 1])
    return spent, float(scores[:, -1].max() - scores[best, -1])


def rules(scores: np.ndarray, random_trials: int, orders: int) -> list[dict[str, Any]]:
    print("grace  factor  never stopped   image passes saved   same winner   regret (points): mean / 95th percentile")
    rows = []
    for grace, factor, safe in ((3, 3, random_trials + 1), (3, 3, len(scores) // 2), (3, 3, 1), (1, 3, 1), (1, 2, 1)):
        rng = np.random.default_rng(0)
        runs = [replay(scores, grace, factor, safe, 2, rng) for _ in range(orders)]
        regret = [100 * r for _, r in runs]
        row: dict[str, Any] = {
            "grace": grace, "factor": factor, "never_stopped": safe, "saved": scores.size / statistics.mean(s for s, _ in runs),
            "same_winner": float(np.mean([r < 1e-9 for r in regret])), "regret_mean": float(np.mean(regret)),
            "regret_95": float(np.quantile(regret, 0.95)),
        }  # fmt: skip
        rows.append(row)
        print(
            f"{grace:5d} {factor:7d} {safe:14d} {row['saved']:19.2f}x {row['same_winner']:13.0%} "
            f"{row['regret_mean']:18.2f} / {row['regret_95']:.2f}"
        )
    return rows


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--random", type=int, default=2, help="of them after the default one: drawn at random, never stopped")
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--strategy", default="partial")
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--plain", action="store_true", help="also a Tuner over TorchTrainers: some ten seconds a trial more")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = Study(
        name="stopping", cells=grid(["mini_faces"], ["efficientnet_lite0"], [args.strategy]),
        protocol=Protocol(max_epochs=args.epochs, image_size=48, batch_size=32, views=2),
        trials=args.trials, random_trials=args.random, confirm_seeds=0, line_size=48,
    )  # fmt: skip
    print(
        f"{args.trials} trials of {args.epochs} epochs, {args.strategy}       seconds   until its winner   image passes   best macro-F1",
        flush=True,
    )

    def show(name: str, s: Searched) -> Searched:
        print(f"{name:42s} {s.seconds:9.0f} {s.until_winner:18.0f} {s.images:14d} {s.score:15.3f}", flush=True)
        return s

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stopped, ledger = by_product(study, folder / "stopped")
        show("early stopping", stopped)
        full, whole = by_product(study, folder / "full", ledger.asks())
        show("nothing stopped", full)
        out: dict[str, Any] = {"early_stopping": vars(stopped), "nothing_stopped": vars(full)}
        if args.plain:
            plain = show("plain Tuner and TorchTrainer", by_plain_ray(ledger.asks(), folder / "plain"))
            out |= {"plain": vars(plain), "plain_seconds_ratio": plain.seconds / stopped.seconds}
        regret = 100 * (full.score - score_of(whole, stopped.winner))
        ratio = full.images / stopped.images
        print(
            f"{ratio:.2f} times fewer image passes (goal {GOAL:g}), {full.seconds / stopped.seconds:.2f} times fewer seconds; "
            f"{'the same winner' if stopped.winner == full.winner else 'another winner'}, regret {regret:.2f} points of macro-F1"
        )
        rows = rules(curves(whole, args.epochs), args.random, args.orders)
    if args.json:
        out |= {"image_pass_ratio": ratio, "seconds_ratio": full.seconds / stopped.seconds, "regret_points": regret}
        print(json.dumps(out | {"same_winner": stopped.winner == full.winner, "rules": rows}))


if __name__ == "__main__":
    main()
