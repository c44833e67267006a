"""Trials with other settings, as if they had been asked for with these: an edited configuration alone is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from study.question.trial_config import identity


def edit_config(study: Path, trial: str, change: Callable[[dict[str, Any]], object]) -> str:
    """Change the configuration of a trial in a study's folder, and its id wherever the study names it; return the new id."""
    file = study / "trials" / trial / "config.json"
    values = json.loads(file.read_text())
    change(values["config"])
    file.write_text(json.dumps(values))
    new = identity(values["config"])
    for record in [*study.glob("*.json"), *(study / "trials").rglob("*.json*")]:
        record.write_text(record.read_text().replace(trial, new))
    (study / "trials" / trial).rename(study / "trials" / new)
    return new
