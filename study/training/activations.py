"""What the frozen half puts out, computed once per (weights, cut, images, view) and shared by every trial of a machine.

One memory-mapped file a view, built under a lock by whoever needs it first, its manifest written last; the oldest
files go when the byte budget (`STUDY_ACTIVATIONS_GB`, default 20) is full. Removing a file others have mapped is safe.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from study.records import dumps

BUDGET_GB = 20.0


class ActivationStore:
    """Rows of float16 activations by key. `compute(positions) -> Tensor [B, ...]` fills what is missing."""

    def __init__(self, folder: Path, budget_bytes: float | None = None) -> None:
        self.folder = folder
        self.budget = budget_bytes or float(os.environ.get("STUDY_ACTIVATIONS_GB", BUDGET_GB)) * 1e9

    def rows(self, key: dict[str, object], total: int, compute: Callable[[np.ndarray], Tensor], batch: int = 64) -> np.ndarray | None:
        """Memory-mapped [total, ...], read-only; None where `total` rows do not fit into the budget or on the disk."""
        name = hashlib.sha256(dumps(key).encode()).hexdigest()[:24]
        if (found := self._open(name)) is not None:
            return found
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(self.folder / f"{name}.lock"):
            if (found := self._open(name)) is None:
                found = self._build(name, key, total, compute, batch)
        return found

    def _open(self, name: str) -> np.ndarray | None:
        try:
            manifest = json.loads((self.folder / f"{name}.json").read_text())
            array = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (FileNotFoundError, ValueError):
            return None
        if list(array.shape) != manifest["shape"]:
            return None
        os.utime(self.folder / f"{name}.json")  # most recently used last
        rows: np.ndarray = array
        return rows

    def _build(
        self, name: str, key: dict[str, object], total: int, compute: Callable[[np.ndarray], Tensor], batch: int
    ) -> np.ndarray | None:
        first = _half(compute(np.arange(min(batch, total))))
        shape = (total, *first.shape[1:])
        if not self._make_room(int(np.prod(shape)) * 2):
            return None
        temporary = self.folder / f"{name}.npy.{os.getpid()}.tmp"
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        array[: len(first)] = first
        for start in range(len(first), total, batch):
            positions = np.arange(start, min(start + batch, total))
            array[positions[0] : positions[-1] + 1] = _half(compute(positions))
        array.flush()
        del array
        os.replace(temporary, self.folder / f"{name}.npy")
        manifest = self.folder / f"{name}.json"
        manifest.with_suffix(".json.tmp").write_text(dumps({"key": key, "shape": list(shape)}))
        os.replace(manifest.with_suffix(".json.tmp"), manifest)
        return self._open(name)

    def _make_room(self, needed: int) -> bool:
        """Drops the least recently used until `needed` bytes fit into the budget and, twice over, on the disk."""
        kept = sorted(self.folder.glob("*.json"), key=lambda p: p.stat().st_mtime)
        sizes = {p: p.with_suffix(".npy").stat().st_size if p.with_suffix(".npy").exists() else 0 for p in kept}
        while kept and sum(sizes[p] for p in kept) + needed > self.budget:
            oldest = kept.pop(0)
            oldest.unlink(missing_ok=True)
            oldest.with_suffix(".npy").unlink(missing_ok=True)
        return needed <= self.budget and 2 * needed < shutil.disk_usage(self.folder).free


def _half(rows: Tensor) -> np.ndarray:
    if rows.ndim == 4:  # kept channels-last, as the trained half will read it
        rows = rows.permute(0, 2, 3, 1)
    out: np.ndarray = rows.to(torch.float16).cpu().contiguous().numpy()
    return out


def to_device(rows: np.ndarray, device: torch.device) -> Tensor:
    """float16 rows [B, (H, W,) C] as float32 [B, C(, H, W)], channels last."""
    tensor = torch.from_numpy(np.ascontiguousarray(rows)).to(device, non_blocking=True).float()
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
