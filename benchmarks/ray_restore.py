"""A study as Ray's guides show it, started again with Tuner.restore: the baseline that `benchmarks.restore_kills` kills beside this
system.

    python -m benchmarks.ray_restore FOLDER TRIALS

The trainable reports a checkpoint after every epoch and continues from Tune's newest. The same command restores where it can.
OptunaSearch keeps its study in SQLite, and MLflowLoggerCallback logs to SQLite. It trains the same trials as the sweep, with the same
loop. Since one checkpoint is kept per trial, Tune also writes its own state after every epoch, so a kill finds it as recent as it can
be.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import optuna
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch

from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.run import open_inputs
from study.storage.places import Places
from study.training.loop import fine_tune

CELL = Cell(dataset="digits", backbone="efficientnet_lite0", strategy="partial", train_fraction=0.3)
PROTOCOL = Protocol(max_epochs=4, image_size=32, batch_size=64, train_eval_images=32)


def trainable(values: dict[str, Any]) -> None:
    config = TrialConfig.default(CELL, PROTOCOL).with_values({"lr": values["lr"]})
    checkpoint, saved = tune.get_checkpoint(), None
    if checkpoint:
        with checkpoint.as_directory() as folder:
            saved = torch.load(Path(folder, "state.pt"), weights_only=True)
    for record, state in fine_tune(config, open_inputs(config, Places(folder="")), saved=saved):
        with open(values["trained"], "a") as log:  # what was done, whoever hears of it
            log.write(f"{values['lr']} {record.epoch}\n")
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state.as_dict(), Path(folder, "state.pt"))
            tune.report({"f1": record.objective, "epoch": record.epoch}, checkpoint=tune.Checkpoint.from_directory(folder))


def tuner(root: Path, trials: int) -> tune.Tuner:
    kept = str(root / "tune")
    if tune.Tuner.can_restore(kept):
        return tune.Tuner.restore(kept, trainable, resume_unfinished=True, resume_errored=True)
    space = {
        "lr": optuna.distributions.FloatDistribution(1e-5, 1e-2, log=True),
        "trained": optuna.distributions.CategoricalDistribution([str(root / "trained.log")]),
    }
    storage = optuna.storages.RDBStorage(f"sqlite:///{root}/optuna.db")
    mlflow = MLflowLoggerCallback(tracking_uri=f"sqlite:///{root}/mlflow.db", experiment_name="tiny")
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(space, metric="f1", mode="max", study_name="tiny", storage=storage),
            num_samples=trials,
            max_concurrent_trials=2,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(root),
            verbose=0,
            callbacks=[mlflow],
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            failure_config=tune.FailureConfig(max_failures=3),
        ),
    )


def main() -> None:
    root, trials = Path(sys.argv[1]), int(sys.argv[2])
    results = tuner(root, trials).fit()
    each = [results[k] for k in range(len(results))]
    ended = [{"lr": r.config["lr"], "epoch": r.metrics["epoch"]} for r in each if r.config and not r.error and r.metrics]
    (root / "results.json").write_text(json.dumps(ended))


if __name__ == "__main__":
    main()
