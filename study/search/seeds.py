"""Seeds that are a pure function of what they are for: the same wherever and whenever they are asked."""

import dataclasses
import hashlib

from study.config import Study, TrialConfig


def seed_for(*parts: object) -> int:
    """A 32-bit seed that is a pure function of its parts: trial n of a cell draws the same wherever and whenever it is asked."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def confirm_config(study: Study, winner: TrialConfig, number: int) -> TrialConfig:
    """The winner's settings again, with a seed nothing was tuned on; number k of every cell has the same seed and fold, so runs pair up."""
    k, fold = divmod(number, study.confirm_folds)
    cell = winner.cell
    if study.confirm_folds > 1:
        cell = dataclasses.replace(cell, splits=f"{cell.split_protocol}:{fold}")
    return dataclasses.replace(winner, cell=cell, seed=seed_for(study.seed, "confirm", k) % 2**31)
