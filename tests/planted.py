"""Made-up measurements in the form of study.measure, where more tuning corrupts and forgets more, and a study of many trials."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import LEFT_OUT, Ask, ClassScores, EpochRecord, Stage, TrialResult
from study.search.seeds import seed_for
from study.tracking.ledger import Ledger


def planted(strategy: str, seed: int) -> dict[str, pa.Table]:
    """Return measured files in the form of study.measure: tuning everything corrupts and forgets, by construction."""
    far = 0.0 if strategy == "linear_probe" else 0.3
    noise = 0.01 * np.random.default_rng(seed).standard_normal(8)
    stages = [
        {"stage": k, "trained": True, "images": 40, "cka": 0.9 - far + noise[k], "cka_random": 0.1, "kernel": list(range(1, 46))}
        for k in (1, 2)
    ]
    return {
        "cka": pa.Table.from_pylist(stages),
        "reprobe": pa.Table.from_pylist(
            [{"task": t, "foreign": t != "digits", "images": 40, "accuracy": 0.8 - far + noise[2], "macro_f1": 0.8,
                "accuracy_before": 0.7, "macro_f1_before": 0.7} for t in ("digits", "folder:/x/birds")]
        ),
        "forgetting": pa.Table.from_pylist([{"kind": "as it is", "images": 40, "agreement": 0.6 - far + noise[3],
            "kl": 1 + far + noise[4], "accuracy": None, "accuracy_before": None}]),
        "way_back": pa.Table.from_pylist([{"share": s, "images": 40, "accuracy": 0.5 + s / 5, "macro_f1": 0.5 + s / 5,
            "agreement": 1 - s * far, "kl": s} for s in (0.0, 0.5, 1.0)]),
        "background": pa.table({}).replace_schema_metadata({LEFT_OUT: "digits does not say <b>where</b> its subject is"}),
        "corruptions": pa.Table.from_pylist([{"kind": k, "severity": int(k != "clean"), "images": 40, "accuracy": 0.8, "macro_f1": 0.8}
            for k in ("clean", "noise")]),
        "calibration": pa.Table.from_pylist(
            [{"temperature": t, "images": 40, "nll": 1.0, "brier": 0.5, "ece": 0.1, "bin_images": [0, 40],
                "bin_confidence": [None, 0.8], "bin_accuracy": [None, 0.7]} for t in (1.0, 1.5)]
        ),
    }  # fmt: skip


def plant(ledger: Ledger) -> None:
    """Write planted measurements into every confirm run of the study."""
    for ask in ledger.asks(Stage.CONFIRM):
        for name, table in planted(ask.cell.split("/")[3], ask.sequence).items():
            buffer = io.BytesIO()
            pq.write_table(table, buffer)
            ledger.folder.write(f"trials/{ask.trial_id}/measured/{name}.parquet", buffer.getvalue())


def synthetic(root: Path, trials: int, strategies: Sequence[str] = ("partial", "full"), sizes: tuple[float, ...] = (1.0,)) -> Ledger:
    """Write a ledger of `trials` search trials, as fast as files can be written."""
    cells = grid(["digits", "mini_faces"], ["resnet18"], [*strategies], sizes)
    study = Study(
        name="big",
        cells=cells,
        protocol=Protocol(max_epochs=5),
        trials=trials // len(cells),
        random_trials=trials // len(cells) // 2,
    )
    ledger = Ledger(root, "big")
    ledger.begin(study, {})
    rng = np.random.default_rng(0)
    confusion = ClassScores(precision=[0.5] * 7, recall=[0.5] * 7, f1=[0.5] * 7, support=[9] * 7, confusion=[[3] * 7] * 7)
    for k in range(trials):
        cell = cells[k % len(cells)]
        drawn = {"lr": float(10 ** rng.uniform(-4.5, -2.1)), "weight_decay": float(10 ** rng.uniform(-6, -1)), "seed": seed_for(k)}
        config = TrialConfig.default(cell, study.protocol).with_values(drawn)
        number = k // len(cells)
        origin = "default" if number == 0 else "random" if number <= study.random_trials else "tpe"
        folder = Path(ledger.folder.path(f"trials/{config.id}"))
        folder.mkdir(parents=True)
        ask = Ask(trial_id=config.id, cell=cell.id, number=number, stage="search", origin=origin, config=config.as_dict(), sequence=k)
        (folder / "config.json").write_text(json.dumps({"schema": 1, **ask.as_dict()}))
        scores = np.clip(0.4 + 0.1 * rng.standard_normal(5), 0, 1)
        lines = [
            EpochRecord(
                epoch=e + 1,
                metrics={
                    "val/macro_f1": float(s),
                    "val/accuracy": float(s),
                    "val/nll": 1.0,
                    "train/macro_f1": float(s),
                    "train/loss": 1.0,
                },
                train_seconds=1.0,
                eval_seconds=0.1,
                images=100,
                ended_at=float(k),
            )
            for e, s in enumerate(scores)
        ]
        (folder / "epochs.jsonl").write_text("".join(json.dumps(x.as_dict()) + "\n" for x in lines))
        result = TrialResult(
            trial_id=config.id,
            outcome="completed",
            epochs=5,
            best_epoch=1,
            metrics=lines[0].metrics,
            classes=[str(c) for c in range(7)],
            val=confusion,
            seconds=5.5,
            images=500,
        )
        (folder / "result.json").write_text(json.dumps({"schema": 1, **result.as_dict()}))
    return ledger
