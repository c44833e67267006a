"""A whole study in seconds: digits, a tenth of them, two strategies."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = """
from study.config import Protocol, Study, grid
TINY = Study(
    name="tiny", cells=grid(["digits"], ["efficientnet_lite0"], {strategies!r}, (0.1,)),
    protocol=Protocol(max_epochs=2, image_size=32, batch_size=64, views=1, train_eval_images=32, warmup_epochs=0.5{protocol}),
    trials={trials}, random_trials=1, grace_epochs=1, reduction_factor=2, confirm_seeds={seeds},
)
"""


def write(
    folder: Path, strategies: tuple[str, ...] = ("linear_probe", "partial"), trials: int = 2, seeds: int = 2, protocol: str = ""
) -> Path:
    path = folder / "my_study.py"
    path.write_text(SOURCE.format(strategies=list(strategies), trials=trials, seeds=seeds, protocol=protocol))
    return path


def command(study: Path, results: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "study.sweep", str(study), "--results", str(results), *more]


def run(
    study: Path, results: Path, *more: str, env: dict[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    full = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.run(command(study, results, *more), capture_output=True, text=True, env=full, timeout=timeout)
