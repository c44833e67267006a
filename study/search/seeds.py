"""Seeds as pure functions of their purpose: the same on every machine and at any time."""

import dataclasses
import hashlib

from study.question.study_config import Study
from study.question.training_settings import stretched
from study.question.trial_config import TrialConfig


def seed_for(*parts: object) -> int:
    """Return a 32-bit seed that is a pure function of its parts: trial n of a cell draws the same wherever and whenever it is asked."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def confirm_config(study: Study, winner: TrialConfig, number: int, *, factor: int = 1) -> TrialConfig:
    """Return the winner's settings with a seed nothing was tuned on, at `factor` times its epochs and the study's size of confirm runs.

    Where its cell trains on a part of the images, it is another part. Number k of every cell has the same seed, outer fold and part,
    for every strategy, so runs pair up.
    """
    cell = study.cell_of(winner.cell, study.search_of(number))
    subset = number + 1 if cell.train_fraction < 1 else 0  # 0 is what the search saw
    protocol = stretched(winner.protocol, factor)
    if study.confirm_size:
        protocol = dataclasses.replace(protocol, image_size=study.confirm_size)
    return dataclasses.replace(winner, cell=cell, protocol=protocol, seed=seed_for(study.seed, "confirm", number) % 2**31, subset=subset)
