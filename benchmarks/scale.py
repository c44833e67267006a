"""A thousand trials that train nothing: the cost of the sweep itself, in seconds and megabytes of its process per trial.

    python -m benchmarks.scale --trials 1000 --json

Everything except training is real: Optuna, the ledger on disk, and with --ray the whole of Ray Tune with reused actors.
"""

import json
import resource
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import arguments
from study.console.signals import interruptible
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.records import EpochRecord, Outcome, dumps
from study.run import Ending
from study.search import local
from study.search.conductor import Conductor
from study.search.optuna_cells import SearchPlan
from study.storage.places import Places
from study.tracking.ledger import Ledger

EPOCHS = 3


def record(number: int, epoch: int) -> EpochRecord:
    score = float(np.random.default_rng(number).uniform(0.2, 0.8)) + 0.01 * epoch
    names = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "balanced_accuracy", "nll", "ece")
    metrics = {"train/loss": 1.0, "lr": 1e-3} | {f"{s}/{n}": score for s in ("train", "val") for n in names}
    return EpochRecord(
        epoch=epoch,
        metrics=metrics,
        train_seconds=0.1,
        eval_seconds=0.1,
        images=100,
        ended_at=time.time(),
        facts={},
        confusion=[[1] * 7] * 7,
    )


def trial_that_trains_nothing(config: dict[str, Any]) -> None:
    from ray import tune

    for epoch in range(1, EPOCHS + 1):
        r = record(config["ask"]["sequence"], epoch)
        tune.report({"record": dumps(r.as_dict()), "objective": r.objective, "epoch": epoch})
    tune.report({"outcome": "completed", "reason": "", "objective": -1.0})


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--ray", action="store_true")
    args = parser.parse_args()
    cells = grid(["digits", "mini_faces"], ["efficientnet_lite0"], ["partial", "full"])
    study = Study(
        name="scale", cells=cells, protocol=Protocol(max_epochs=EPOCHS, image_size=32), trials=args.trials // len(cells),
        random_trials=args.trials // len(cells) // 2, grace_epochs=1, confirm_seeds=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, interruptible() as interrupted:
        ledger = Ledger(folder, study.name)
        ledger.begin(study, {})
        plan = SearchPlan(study, ledger)
        conductor = Conductor(plan, ledger, lambda config: list("abcdefg"), lambda *event: None)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        if args.ray:
            from study.search.on_ray import tuner
            from study.search.on_ray.cluster import cluster
            from study.search.resources import Resources

            tuner.one_worker = trial_that_trains_nothing
            with cluster(None) as connected:
                ready = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                began = time.perf_counter()
                tuner.run(
                    conductor, lambda ask: Places(folder=folder), total=plan.total, resources=Resources(), cluster=connected,
                    storage=f"{folder}/.ray", measurements=(), interrupted=interrupted,
                )  # fmt: skip
        else:
            ready = before

            def nothing(config: Any, places: Any, report: Any, **rest: Any) -> Ending:
                for epoch in range(1, EPOCHS + 1):
                    if report(record(abs(hash(config.id)), epoch)):
                        return Ending(outcome=Outcome.STOPPED)
                return Ending(outcome=Outcome.COMPLETED)

            local.run_trial = nothing
            local.run(conductor, lambda ask: Places(folder=folder), total=plan.total, measurements=(), interrupted=interrupted)
        seconds = time.perf_counter() - began
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - ready
        done = len(ledger.results())
        began = time.perf_counter()
        SearchPlan(study, ledger)
        resume = time.perf_counter() - began
    how = "Ray Tune, reused actors" if args.ray else "this process"
    print(
        f"{done} trials of {EPOCHS} epochs through {how}: {seconds:.1f} s, {1000 * seconds / done:.0f} ms and "
        f"{grown / done:.0f} kB a trial; resuming reads them in {resume:.1f} s"
    )
    if args.json:
        print(
            json.dumps(
                {
                    "trials": done,
                    "seconds": seconds,
                    "ms_per_trial": 1000 * seconds / done,
                    "kb_per_trial": grown / done,
                    "resume_seconds": resume,
                }
            )
        )


if __name__ == "__main__":
    main()
