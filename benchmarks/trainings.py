"""Banks of real trainings: the validation score of a configuration with a seed, and its predictions for every test image.

Configuration 0 of a strategy is its published default. The others are drawn from the study's own ranges as a search draws its random
trials. Every training is the product's own (`run_trial`), and its weights are not kept. A bank is one .npz, continued where it was
left.
"""

import dataclasses
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pyarrow.parquet as pq

from study.question.cell import Cell
from study.question.studies import PILOT, narrow
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.question.which_epoch import kept_epoch
from study.records import EpochRecord, Outcome
from study.run import run_trial
from study.search.sample import suggest
from study.search.seeds import seed_for
from study.space import Integer
from study.storage.folder import Folder
from study.storage.places import Places

SAVE_EVERY = 5  # trainings
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """The trainings of one strategy on one data set: C configurations with S seeds."""

    val: np.ndarray  # [C, S] macro-F1 of the kept epoch, what a search goes by; -inf: diverged, NaN: not trained
    predicted: np.ndarray  # [C, S, N] classes of the test images
    labels: np.ndarray  # [N]

    def whole(self) -> "Bank":
        """Return the complete rows and columns that hold the most trainings.

        Configurations that diverged with some seed are left out (their confirm runs say nothing), and so are trainings that are not
        done yet.
        """
        done = ~np.isnan(self.val) & ~np.isinf(self.val).any(axis=1, keepdims=True)
        seeds = max(range(done.shape[1] + 1), key=lambda s: int(done[:, :s].all(axis=1).sum()) * s)
        rows = done[:, :seeds].all(axis=1)
        return Bank(val=self.val[rows, :seeds], predicted=self.predicted[rows, :seeds], labels=self.labels)


def bank_study(dataset: str) -> Study:
    """Return the pilot's protocol on one data set, made affordable, in the precision that every machine has.

    Partial fine-tuning trains one stage, since deeper ones cost two to four times as much, and FER2013 has a quarter of its training
    images.
    """
    study = narrow(PILOT, datasets=[dataset], precision="fp32", train_eval_images=32, space={"partial.unfreeze_depth": Integer(1, 1)})
    fraction = 0.25 if dataset == "fer2013" else 1.0
    return dataclasses.replace(study, cells=tuple(dataclasses.replace(c, train_fraction=fraction) for c in study.cells))


def configuration(study: Study, cell: Cell, number: int) -> TrialConfig:
    """Return configuration `number`, where 0 is the published default. A number always gives the same configuration."""
    if number == 0:
        return TrialConfig.default(cell, study.protocol)
    sampler = optuna.samplers.RandomSampler(seed=seed_for("bank", cell.id, number))
    return suggest(optuna.create_study(sampler=sampler).ask(), study, cell, 0)


def train(config: TrialConfig, data: str, cache: str) -> tuple[float, np.ndarray | None, np.ndarray | None]:
    """Return (validation macro-F1 of the kept epoch, test logits [N, C], test labels [N]), or (-inf, None, None) where it diverged."""
    records: list[EpochRecord] = []
    with tempfile.TemporaryDirectory() as folder:
        places = Places(folder=folder, data=data, cache=cache)
        ending = run_trial(config, places, lambda r: bool(records.append(r)), measurements=("predictions",))
        if ending.outcome is not Outcome.COMPLETED:
            return -np.inf, None, None
        table = pq.read_table(io.BytesIO(Folder(folder).read("measured/predictions.parquet") or b"")).to_pandas()
    test = table[table.split == "test"].sort_values("image")
    kept = kept_epoch(config.protocol, records)
    assert kept is not None
    return kept.objective, np.stack([*test.logits]), test.label.to_numpy()


# ---- the file -------------------------------------------------------------------------------------------


def load_banks(path: Path) -> dict[str, Bank]:
    """Return the banks by "data set/strategy", empty where there is no file."""
    arrays = _arrays(path)
    return {
        name: Bank(val=arrays[f"{name}/val"], predicted=_classes(arrays[f"{name}/logits"]), labels=arrays[f"{name}/labels"])
        for name in sorted(k.removesuffix("/val") for k in arrays if k.endswith("/val"))
    }


def _classes(logits: np.ndarray) -> np.ndarray:
    return logits.argmax(axis=-1)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return {k: file[k] for k in file.files}


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the bank atomically, so that a reader never sees half of it."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_bytes(buffer.getvalue())
    os.replace(path.with_suffix(".part"), path)


def fill(path: Path, wanted: Mapping[str, tuple[int, int]], data: str) -> Iterator[str]:
    """Train what `path` lacks of "data set/strategy": (configurations, seeds), seed by seed over all of them, and yield a line after each.

    Raises SystemExit where the file holds trainings of other configurations under the same name.
    """
    arrays = _arrays(path)
    drawn = {name: _begin(path, arrays, name, *size) for name, size in wanted.items()}
    missing = [
        (name, c, s)
        for s in range(max(seeds for _, seeds in wanted.values()))
        for name, (configs, seeds) in wanted.items()
        for c in range(configs)
        if s < seeds and np.isnan(arrays[f"{name}/val"][c, s])
    ]
    for count, (name, c, s) in enumerate(missing, 1):
        score, logits, labels = train(dataclasses.replace(drawn[name][c], seed=s), data, str(path.with_suffix(".cache")))
        arrays[f"{name}/val"][c, s] = score
        if logits is not None:
            arrays[f"{name}/labels"] = labels
            shape = (*arrays[f"{name}/val"].shape, *logits.shape)
            arrays[f"{name}/logits"] = _grown(arrays.get(f"{name}/logits", np.zeros((0,) * 4)), shape).astype(np.float16)
            arrays[f"{name}/logits"][c, s] = logits
        if count % SAVE_EVERY == 0 or count == len(missing):
            _save(path, arrays)
        yield f"{count} of {len(missing)}: {name}, configuration {c}, seed {s}, validation {100 * score:.1f}"


def _begin(path: Path, arrays: dict[str, np.ndarray], name: str, configs: int, seeds: int) -> list[TrialConfig]:
    """Make room in `arrays` and return the configurations."""
    dataset, strategy = name.split("/")
    study = bank_study(dataset)
    cell = next(c for c in study.cells if c.strategy == strategy)
    drawn = [configuration(study, cell, k) for k in range(configs)]
    known, asked = json.loads(str(arrays.get(f"{name}/configs", "[]"))), [c.as_dict() for c in drawn]
    if any(k != a for k, a in zip(known, asked, strict=False)):
        raise SystemExit(f"{path} holds trainings of {name} in another protocol or from other ranges; give --bank another file")
    arrays[f"{name}/configs"] = np.array(json.dumps(max(known, asked, key=len)))
    arrays[f"{name}/val"] = _grown(arrays.get(f"{name}/val", np.zeros((0, 0))), (configs, seeds))
    return drawn


def _grown(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array grown to at least this shape, with NaN in the new places."""
    shape = tuple(max(a, b) for a, b in zip(array.shape, shape, strict=True))
    out = np.full(shape, np.nan, np.float32)
    out[tuple(slice(n) for n in array.shape)] = array
    return out
