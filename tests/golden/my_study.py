"""The golden study: tiny and real. `make golden` runs it and writes the tables that tests compare byte for byte."""

from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol

GOLDEN = Study(
    name="golden",
    about="Digits at 32 px: small enough to commit.",
    cells=grid(["digits"], ["efficientnet_lite0"], ["linear_probe", "partial"]),
    protocol=Protocol(max_epochs=3, image_size=32, views=2, train_eval_images=128),
    trials=6,
    random_trials=4,
    grace_epochs=1,
    reduction_factor=2,
    confirm_seeds=3,
)
