"""A whole study in seconds: digits, a tenth of them, two strategies."""

import os
import re
import subprocess
import sys
from pathlib import Path

from study.records import Origin, TrialResult
from study.tracking.ledger import Ledger, Trial

SOURCE = """
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
TINY = Study(
    name="tiny", cells=grid(["digits"], ["efficientnet_lite0"], {strategies!r}, (0.1,)),
    protocol=Protocol(max_epochs=2, image_size=32, batch_size={batch}, views=1, train_eval_images=32, warmup_epochs=0.5{protocol}),
    trials={trials}, random_trials={random}, grace_epochs={grace}, reduction_factor=2, confirm_seeds={seeds}, line_size=32,
    budget_check={check},
)
"""


def write(
    folder: Path,
    strategies: tuple[str, ...] = ("linear_probe", "partial"),
    trials: int = 2,
    seeds: int = 2,
    protocol: str = "",
    check: int = 0,
    batch: int = 64,
) -> Path:
    """Write the study's file.

    `check` is the factor of its budget check, where 0 trains nothing for it. `batch` is the batch size. Smaller steps are cheaper where
    many are taken.
    """
    return _write(
        folder, strategies=list(strategies), trials=trials, seeds=seeds, protocol=protocol, random=1, grace=1, check=check, batch=batch
    )


def in_any_order(folder: Path) -> Path:
    """Write a study of ten trials whose ids and numbers depend on no order.

    Proposals of TPE and early stopping depend on the trials that have ended by then, which differ with the number that run at once.
    """
    return _write(folder, strategies=["linear_probe", "partial"], trials=3, seeds=2, protocol="", random=2, grace=2, check=0, batch=64)


def _write(folder: Path, **values: object) -> Path:
    path = folder / "my_study.py"
    path.write_text(SOURCE.format(**values))
    return path


def command(study: Path, results: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "study.sweep", str(study), "--results", str(results), *more]


def run(
    study: Path, results: Path, *more: str, env: dict[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    full = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.run(command(study, results, *more), capture_output=True, text=True, env=full, timeout=timeout)


def trained(ledger: Ledger) -> dict[str, TrialResult | None]:
    """Return how every trial ended except the line to beat, which is solved. It is None for one that has not ended."""
    return {a.trial_id: ledger.result(a.trial_id) for a in ledger.asks() if a.origin is not Origin.LINE}


def same(a: Ledger, b: Ledger) -> None:
    """Compare two studies to the last digit: ids, every epoch's metrics, choice and verdicts."""
    ours, theirs = ([told(t) for t in sorted(ledger.trials(), key=lambda t: t.ask.trial_id)] for ledger in (a, b))
    assert ours == theirs and ours
    verdicts = [[re.sub(r"python -m study\.sweep[^;]*", "", line) for line in ledger.facts()["verdicts"]] for ledger in (a, b)]
    assert a.selection() == b.selection() and verdicts[0] == verdicts[1] != []  # the commands that would decide name each its own folder


def told(trial: Trial) -> tuple:
    """Return everything of a trial except times, places, and the order in which a resumed stage asks again."""
    epochs = [(e.epoch, {k: v for k, v in e.metrics.items() if "seconds" not in k}, e.confusion) for e in trial.epochs]
    assert trial.result is not None
    return {**trial.ask.as_dict(), "sequence": 0}, epochs, trial.result.outcome, trial.result.metrics, trial.result.best_epoch
