"""Using what a study found: `python -m study.predict RESULTS/STUDY/trials/ID IMAGE...`, or `Predictor.from_folder`.

Also where per-image predictions of confirm runs are made: the only code that reads a test split.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import timm
import torch

from study.backbones import timm_name
from study.config import TrialConfig
from study.datasets import open_dataset
from study.datasets.cache import pixels
from study.datasets.spec import ImageTable
from study.errors import ConfigError, DataError, StudyError
from study.files import Folder
from study.training import checkpoint, distributed
from study.training.augment import plain
from study.training.inputs import HEADROOM, TEST, VAL
from study.training.loop import Device
from study.training.metrics import softmax
from study.training.run import Workspace

BATCH = 64
CHUNK = 512  # images read from the memory-mapped cache at a time


class Predictor:
    """A trained network that takes uint8 images and gives probabilities."""

    def __init__(self, model: torch.nn.Module, facts: dict[str, Any]) -> None:
        self.where = Device.best(facts["precision"])
        self.model = model.to(self.where.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.classes: list[str] = list(facts["classes"])
        self.image_size: int = facts["image_size"]
        self.channels: int = facts["channels"]
        config = model.default_cfg
        self.mean, self.std = tuple(config["mean"]), tuple(config["std"])  # type: ignore[index, arg-type]

    @classmethod
    def from_folder(cls, folder: str | Path | Folder, **expected: Any) -> "Predictor":
        """The best checkpoint of a trial: `folder` is the trial's own, or its `best` folder. Raises ConfigError."""
        folder = folder if isinstance(folder, Folder) else Folder(str(folder))
        found = checkpoint.load_weights(folder, "best", **expected) or checkpoint.load_weights(folder, ".", **expected)
        if found is None:
            raise ConfigError(f"{folder.location} holds no intact best checkpoint (best/manifest.json); name a trial's folder.")
        state, facts = found
        model = timm.create_model(timm_name(facts["backbone"]), pretrained=False, num_classes=len(facts["classes"]), **facts["arguments"])
        model.load_state_dict(state, strict=True)
        return cls(model, facts)

    @torch.no_grad()
    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, S, S, C] -> float32 [N, classes]."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise DataError(f"images must be uint8 [N, H, W, 1 or 3], not {images.dtype} {list(images.shape)}.")
        rows = []
        for start in range(0, len(images), BATCH):
            raw = torch.from_numpy(np.array(images[start : start + BATCH])).to(self.where.device)
            with self.where.autocast():
                rows.append(self.model(plain(raw, size=self.image_size, mean=self.mean, std=self.std)).float().cpu())  # type: ignore[arg-type]
        out: np.ndarray = torch.cat(rows).numpy() if rows else np.zeros((0, len(self.classes)), np.float32)
        return out

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, S, S, C] -> probabilities float32 [N, classes]."""
        return softmax(self.logits(images).astype(np.float64)).astype(np.float32)


def write_predictions(config: TrialConfig, work: Workspace) -> None:
    """Logits of every validation and test image at the kept checkpoint, as trials/<id>/predictions.parquet.

    The workers share the images; rank 0 writes, the same rows in the same order whatever their number.
    """
    distributed.barrier()  # rank 0 may still be writing the best checkpoint
    folder = Folder(work.folder)
    predictor = Predictor.from_folder(folder, trial=config.id)
    data, cache = work.paths()
    table = open_dataset(config.cell.dataset, splits=config.cell.splits, root=data)
    images = pixels(table, round(config.protocol.image_size * HEADROOM), cache)
    chosen = np.flatnonzero((table.split == VAL) | (table.split == TEST))
    mine = distributed.shard(chosen)
    parts = [predictor.logits(images[mine[start : start + CHUNK]]) for start in range(0, len(mine), CHUNK)]
    shard = torch.from_numpy(np.concatenate([predictor.logits(images[:0]), *parts])).to(predictor.where.device)
    logits = distributed.gather_rows(shard, len(chosen))
    if distributed.rank() == 0:
        folder.write("predictions.parquet", _parquet(table, chosen, logits))
    distributed.barrier()


def _parquet(table: ImageTable, chosen: np.ndarray, logits: np.ndarray) -> bytes:
    """One row an image: `chosen` are positions in the table, logits float32 [len(chosen), classes]."""
    columns = {
        "split": pa.array(np.where(table.split[chosen] == TEST, "test", "val")),
        "image": pa.array([table.ids[i] for i in chosen]),
        "label": pa.array(table.labels[chosen].astype(np.int64)),
        "group": pa.array(table.groups[chosen].astype(np.int64) if table.groups is not None else [None] * len(chosen), pa.int64()),
        "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1)), logits.shape[1]),
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def read_image(path: str, channels: int, size: int) -> np.ndarray:
    """uint8 [size, size, channels] of an image file. Raises DataError naming it."""
    from study.datasets.cache import square
    from study.datasets.folder import decode_file

    return square(decode_file(Path(path), channels), size)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m study.predict", description="Classify images with a trial's best checkpoint.")
    parser.add_argument("trial", help="folder of a trial: RESULTS/STUDY/trials/ID (local path or URL)")
    parser.add_argument("images", nargs="+", help="image files")
    args = parser.parse_args(argv)
    try:
        predictor = Predictor.from_folder(args.trial)
        for path in args.images:
            image = read_image(path, predictor.channels, round(predictor.image_size * HEADROOM))
            (row,) = predictor(image[None])
            top = np.argsort(-row)[:3]
            print(path, *(f"{predictor.classes[k]} {row[k]:.3f}" for k in top), sep="\t")
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
