"""A finished study whose networks are kept, in seconds, and pictures to try them on."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from study import Protocol, Results, Study, grid, run_study

QUESTION = Study(
    name="used",
    cells=grid(["digits"], ["efficientnet_lite0"], ["linear_probe", "partial"], (0.1,)),
    protocol=Protocol(max_epochs=1, image_size=32, batch_size=64, views=1, train_eval_images=32, warmup_epochs=0.5),
    trials=1,
    random_trials=0,
    grace_epochs=1,
    confirm_seeds=2,
    line_size=32,
    budget_check=0,
)


def run(folder: Path) -> Results:
    return run_study(QUESTION, results=folder, local=True)


def draw(root: Path) -> Path:
    """Twelve digits in two folders, one of them named as a formula; a file that is none, one of another kind, what a system left."""
    scans = load_digits()
    (root / "a b" / "deep").mkdir(parents=True)
    for k in range(12):
        name = f"=d{k}.png" if k == 3 else f"d{k:02}.png"
        image = Image.fromarray((scans.images[k] * 15.9).astype(np.uint8)).resize((24, 30))
        image.save((root / "a b" / "deep" if k % 2 else root) / name)
    (root / "broken.jpg").write_bytes(b"no picture")
    (root / "notes.txt").write_text("x")
    (root / ".DS_Store").write_text("x")
    return root
