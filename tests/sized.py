"""A finished study over sizes, made up as fast as files can be written: true scores by strategy and size, five confirm seeds."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from study.conduct.lines import line_asks
from study.metrics import class_scores
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import Ask, EpochRecord, Origin, Outcome, Stage, TrialResult
from study.search.seeds import confirm_config
from study.strategies import Features
from study.tracking.ledger import Ledger
from tests.goldens import began

IMAGES = 1000  # training images of the whole
CLASSES = 4
ONE = Protocol(max_epochs=1, precision="fp32")
FRACTIONS = (0.05, 0.1, 0.3, 1.0)


def write(
    root: Path,
    right: Mapping[str, Sequence[float]],
    fractions: Sequence[float] = FRACTIONS,
    seeds: int = 5,
    tests: int = 600,
    spread: float = 0.01,
    fitted: Mapping[str, float] = {},
    validation: Mapping[str, Sequence[Sequence[int]]] = {},
    protocol: Protocol = ONE,
    budgets: Sequence[int] = (1,),
    image_sizes: Sequence[int] = (0,),
    line: float = 0.0,
    **fields: object,
) -> Ledger:
    """Write the study.

    `right` is by strategy the share of test images predicted correctly at each fraction, budget and image size, in the order of `grid`.
    `spread` is its sd over seeds. `fitted` is by strategy the share of its own training images predicted correctly. `validation` is by
    strategy its confusion matrix there. `line` is the share of test images that the line to beat predicts correctly, 0 for none.
    """
    study = Study(
        name="sized",
        cells=grid(["digits"], ["resnet18"], list(right), tuple(fractions), tuple(budgets), tuple(image_sizes)),
        protocol=protocol,
        trials=int(fields.get("searches", 1)),  # type: ignore[call-overload]
        random_trials=0,
        confirm_seeds=seeds,
        **fields,  # type: ignore[arg-type]
    )
    ledger = Ledger(root, "sized")
    ledger.begin(study, began("my_study.py:SIZED"))
    rng = np.random.default_rng(0)
    labels, hard = rng.integers(0, CLASSES, tests), rng.random(tests)
    order, won = 0, dict[str, list[str]]()
    for cell in study.cells:
        for search in range(study.searches):
            config = TrialConfig.default(study.cell_of(cell, search), study.protocol_of(cell), search)
            won.setdefault(cell.id, []).append(_trial(ledger, config, Stage.SEARCH, search, order, cell.id))
            order += 1
    ledger.write_selection("best", {cell: own[0] for cell, own in won.items()}, order, won if study.searches > 1 else None)
    confirmed: list[str] = []
    places = list(dict.fromkeys(dataclasses.replace(c, strategy="full") for c in study.cells))
    for number in range(seeds):
        drawn = rng.standard_normal(len(places))  # which images were labelled moves all strategies alike
        for cell in study.cells:
            m = places.index(dataclasses.replace(cell, strategy="full"))
            config = confirm_config(study, TrialConfig.default(cell, study.protocol_of(cell)), number)
            metrics = {"train/accuracy": fitted[cell.strategy]} if cell.strategy in fitted else {}
            confirmed.append(_trial(ledger, config, Stage.CONFIRM, number, order, cell.id, metrics, validation.get(cell.strategy)))
            order += 1
            share = right[cell.strategy][m] + spread * (drawn[m] + rng.standard_normal()) / 2**0.5
            margin = 0.7 * hard + 0.3 * rng.random(tests)
            said = np.where(margin < np.quantile(margin, share), labels, (labels + rng.integers(1, CLASSES, tests)) % CLASSES)
            own = np.arange(tests) % study.folds == number % study.folds  # with outer folds, those of the run's own fold
            predict(ledger, confirmed[-1], labels[own], said[own], names=[f"t{k:05d}" for k in np.flatnonzero(own)])
    for ask in line_asks(study, ledger.asks()) if line else ():
        config = TrialConfig.from_dict(ask.config)
        if config.cell.strategy == Features.name:
            confirmed.append(_trial(ledger, config, Stage.CONFIRM, 0, order + 1, ask.cell, {"strength": 1.0}, origin=Origin.LINE))
            said = np.where(hard < np.quantile(hard, line), labels, (labels + 1) % CLASSES)
            predict(ledger, confirmed[-1], labels, said, names=[f"t{k:05d}" for k in range(tests)])
    ledger.open_test(confirmed)
    ledger.add_facts(finished_at=1.0)
    return ledger


def _trial(
    ledger: Ledger,
    config: TrialConfig,
    stage: Stage,
    number: int,
    order: int,
    cell: str,
    more: Mapping[str, float] = {},
    confusion: Sequence[Sequence[int]] | None = None,
    origin: Origin | None = None,
) -> str:
    images = round(IMAGES * config.cell.train_fraction)
    origin = origin or (Origin.DEFAULT if stage is Stage.SEARCH else Origin.CONFIRM)
    where = {"cell": cell, "number": number, "stage": stage, "origin": origin, "sequence": order}
    ledger.write_ask(Ask(trial_id=config.id, config=config.as_dict(), **where))
    last = config.protocol.max_epochs
    plain = {"val/macro_f1": 0.5, "val/accuracy": 0.5, "train/macro_f1": 0.6, "train/loss": 1.0, "val/nll": 1.0}
    for epoch in range(1, last + 1):
        record = EpochRecord(
            epoch=epoch,
            metrics={**plain, **{name: value * epoch / last for name, value in more.items()}},  # what is learned is learned bit by bit
            train_seconds=images / 1000,
            eval_seconds=0.1,
            images=images,
            ended_at=1.0,
            facts={"train_images": images},
        )
        ledger.append_epoch(config.id, record)
    ledger.write_result(
        TrialResult(
            trial_id=config.id,
            outcome=Outcome.COMPLETED,
            epochs=last,
            best_epoch=last,
            metrics=record.metrics,
            classes=[str(c) for c in range(CLASSES)],
            val=None if confusion is None else class_scores(np.array(confusion)),
            seconds=last * record.seconds,
            images=last * images,
            facts=record.facts,
        )
    )
    return config.id


def predict(
    ledger: Ledger,
    trial_id: str,
    labels: np.ndarray,
    said: np.ndarray,
    classes: int = CLASSES,
    names: Sequence[str] = (),
) -> None:
    """Write the made-up predictions of a run for test images, and for eight validation images like the first of them."""
    split = ["val"] * 8 + ["test"] * len(labels)
    truth, logits = np.concatenate([labels[:8], labels]), np.eye(classes, dtype=np.float32)[np.concatenate([said[:8], said])]
    table = pa.table(
        {
            "split": split,
            "image": [f"v{k}" for k in range(8)] + [*(names or [f"t{k:05d}" for k in range(len(labels))])],
            "label": truth.astype(np.int64),
            "group": pa.array([None] * len(truth), pa.int64()),
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1)), classes),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    ledger.trial_folder(trial_id).write("measured/predictions.parquet", buffer.getvalue())
