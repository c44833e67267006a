"""A store of the frozen half's outputs, computed once per (weights, cut, images, view) and shared by every trial of a machine.

There is one memory-mapped file for each view, built under a lock by the first process that needs it, its manifest written last. The least
recently used files are removed when the byte budget (`STUDY_ACTIVATIONS_GB`, default 20) is full. Any file may vanish between two reads:
removing one that others have mapped is safe. The store only saves time, so every fault of it means None, never an error.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from study.datasets.built_arrays import built_once, open_array, temporary, write_array
from study.errors import ConfigError
from study.records import dumps

log = logging.getLogger(__name__)
BUDGET_GB = 20.0
WAIT_S = 60.0  # room is made in milliseconds; whoever takes longer is stuck


class ActivationStore:
    """Rows of activations by key, float16 or, where `exact`, float32. `compute(positions) -> Tensor [B, ...]` makes the missing ones."""

    def __init__(self, folder: Path, budget_bytes: float | None = None) -> None:
        self.folder = folder
        self.budget = _budget() if budget_bytes is None else budget_bytes

    def rows(
        self, key: dict[str, object], total: int, compute: Callable[[np.ndarray], Tensor], batch: int = 64, *, exact: bool = False
    ) -> np.ndarray | None:
        """Return [total, ...], memory-mapped and read-only; None where `total` rows exceed the budget or the disk, or the disk fails."""
        key, dtype = (key | {"exact": True}, "<f4") if exact else (key, "<f2")
        name = hashlib.sha256(dumps(key).encode()).hexdigest()[:24]
        try:
            return built_once(
                self.folder / f"{name}.lock", lambda: self._open(name), lambda: self._build(name, key, total, compute, batch, dtype)
            )
        except OSError as error:  # Timeout is one too; an OSError of `compute` comes again when it is called without a store
            log.warning("activations are computed anew each time: %s", error)
            return None

    def _open(self, name: str) -> np.ndarray | None:
        array = open_array(self.folder / f"{name}.npy")
        if array is not None:
            try:
                os.utime(self.folder / f"{name}.json")  # most recently used last
            except OSError:
                pass  # dropped just now: what is mapped stays
        return array

    def _build(
        self, name: str, key: dict[str, object], total: int, compute: Callable[[np.ndarray], Tensor], batch: int, dtype: str
    ) -> np.ndarray | None:
        first = as_stored(compute(np.arange(min(batch, total))), dtype)
        shape = (total, *first.shape[1:])
        needed = int(np.prod(shape)) * first.itemsize
        path = self.folder / f"{name}.npy"

        def blocks() -> Iterator[np.ndarray]:
            yield first
            for start in range(len(first), total, batch):
                rows = as_stored(compute(np.arange(start, min(start + batch, total))), dtype)
                assert rows.shape == (min(batch, total - start), *shape[1:])
                yield rows

        with FileLock(self.folder / "room.lock", timeout=WAIT_S):
            if not self._make_room(name, needed):
                return None
            with open(temporary(path), "wb") as file:  # its full length, so that the next to make room counts it
                file.truncate(needed)
        return write_array(path, dtype, shape, blocks(), {"key": key})

    def _make_room(self, own: str, needed: int) -> bool:
        """Remove the least recently used until `needed` bytes fit into the budget and, twice over, on the disk; return True where they
        fit.

        Called under the store's lock, so that two builders do not use the same bytes. Removes nothing where that would not suffice.
        """
        self._sweep_up(own)
        building = [_size(p) for p in self.folder.glob("*.npy.*.tmp")]
        promised, unwritten = sum(size for size, _ in building), sum(max(size - written, 0) for size, written in building)
        kept = {p: _size(p.with_suffix(".npy"))[0] for p in sorted(self.folder.glob("*.json"), key=_used_at)}
        free = shutil.disk_usage(self.folder).free - unwritten
        if promised + needed > self.budget or 2 * needed >= free + sum(kept.values()):
            return False
        while kept and (sum(kept.values()) + promised + needed > self.budget or 2 * needed >= free):
            oldest = next(iter(kept))
            free += kept.pop(oldest)
            oldest.unlink(missing_ok=True)
            oldest.with_suffix(".npy").unlink(missing_ok=True)
        return 2 * needed < shutil.disk_usage(self.folder).free - unwritten  # what others have mapped stays on the disk

    def _sweep_up(self, own: str) -> None:
        """Remove the files of dead builders. A builder whose lock can be taken is dead, also in other containers, where process ids
        mislead."""
        for path in [*self.folder.glob("*.tmp"), *self.folder.glob("*.npy")]:
            name = path.name.partition(".")[0]
            if name == own:  # its lock is ours
                path.unlink(missing_ok=True)
            elif path.suffix == ".tmp" or not path.with_suffix(".json").exists():
                try:
                    with FileLock(self.folder / f"{name}.lock", blocking=False):
                        if path.suffix == ".tmp" or not path.with_suffix(".json").exists():  # not finished meanwhile
                            path.unlink(missing_ok=True)
                except Timeout:
                    pass


def _budget() -> float:
    """Return the budget in bytes. Raises ConfigError."""
    text = os.environ.get("STUDY_ACTIVATIONS_GB") or str(BUDGET_GB)
    try:
        if (gigabytes := float(text)) >= 0:
            return gigabytes * 1e9
    except ValueError:
        pass
    raise ConfigError(f"STUDY_ACTIVATIONS_GB is {text!r}, must be a number of gigabytes, 0 to reuse no activations.")


def _size(path: Path) -> tuple[int, int]:
    """Return (bytes it claims, bytes it occupies); zeros once the file is gone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_blocks * 512


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def as_stored(rows: Tensor, dtype: str) -> np.ndarray:
    """Return rows [B, C(, H, W)] as a file holds them: channels last, on the host."""
    if rows.ndim == 4:  # kept channels-last, as the trained half will read it
        rows = rows.permute(0, 2, 3, 1)
    out: np.ndarray = rows.to(torch.float32 if dtype == "<f4" else torch.float16).cpu().contiguous().numpy()
    return out


def to_device(rows: np.ndarray, device: torch.device) -> Tensor:
    """Return stored rows [B, (H, W,) C] as float32 [B, C(, H, W)], channels last."""
    tensor = torch.from_numpy(np.ascontiguousarray(rows)).to(device, non_blocking=True).float()
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
