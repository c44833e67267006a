"""Measurements as study.measure writes them, made up: tuning more corrupts and forgets, by construction."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from study.records import LEFT_OUT, Stage
from study.tracking.ledger import Ledger


def planted(strategy: str, seed: int) -> dict[str, pa.Table]:
    """Measured files as study.measure writes them: tuning everything corrupts and forgets, by construction."""
    far = 0.0 if strategy == "linear_probe" else 0.3
    noise = 0.01 * np.random.default_rng(seed).standard_normal(8)
    stages = [
        {"stage": k, "trained": True, "images": 40, "cka": 0.9 - far + noise[k], "cka_random": 0.1, "kernel": list(range(1, 46))}
        for k in (1, 2)
    ]
    return {
        "cka": pa.Table.from_pylist(stages),
        "reprobe": pa.Table.from_pylist(
            [{"task": t, "foreign": t != "digits", "images": 40, "accuracy": 0.8 - far + noise[2], "macro_f1": 0.8, "accuracy_before": 0.7, "macro_f1_before": 0.7} for t in ("digits", "folder:/x/birds")]
        ),
        "forgetting": pa.Table.from_pylist([{"kind": "as it is", "images": 40, "agreement": 0.6 - far + noise[3], "kl": 1 + far + noise[4], "accuracy": None, "accuracy_before": None}]),
        "way_back": pa.Table.from_pylist([{"share": s, "images": 40, "accuracy": 0.5 + s / 5, "macro_f1": 0.5 + s / 5, "agreement": 1 - s * far, "kl": s} for s in (0.0, 0.5, 1.0)]),
        "background": pa.table({}).replace_schema_metadata({LEFT_OUT: "digits does not say <b>where</b> its subject is"}),
        "corruptions": pa.Table.from_pylist([{"kind": k, "severity": int(k != "clean"), "images": 40, "accuracy": 0.8, "macro_f1": 0.8} for k in ("clean", "noise")]),
        "calibration": pa.Table.from_pylist(
            [{"temperature": t, "images": 40, "nll": 1.0, "brier": 0.5, "ece": 0.1, "bin_images": [0, 40], "bin_confidence": [None, 0.8], "bin_accuracy": [None, 0.7]} for t in (1.0, 1.5)]
        ),
    }  # fmt: skip


def plant(ledger: Ledger) -> None:
    """Into every confirm run of the study."""
    for ask in ledger.asks(Stage.CONFIRM):
        for name, table in planted(ask.cell.split("/")[3], ask.sequence).items():
            buffer = io.BytesIO()
            pq.write_table(table, buffer)
            ledger.folder.write(f"trials/{ask.trial_id}/measured/{name}.parquet", buffer.getvalue())
