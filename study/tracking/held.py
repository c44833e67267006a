"""Comparison of what a server holds of a study with what was sent to it, and with what the study has by now."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from study.console.text import redact
from study.errors import ConfigError
from study.tracking.cursor import Cursor
from study.tracking.ledger import Ledger
from study.tracking.mlflow_runs import Runs
from study.tracking.names import CALIBRATED, NETWORK

if TYPE_CHECKING:
    from mlflow.entities import Run

SHOWN = 3  # trials that are named


def check_newest(ledger: Ledger, there: "Mapping[str, Run]", uri: str) -> None:
    """Raise ConfigError where the runs that are there, by key, come from a ledger that has got further than this one, or elsewhere.

    A ledger only grows, so that a study which has all that the server has may go on there.
    """
    known = {run.data.tags.get("trial", "") for run in there.values()} - {""}
    more = [f"trial {trial}" for trial in sorted(known - set(ledger.trial_ids()))]
    if (root := there.get("")) is not None and not more:
        grown, here = sum(name.startswith("amendment.") for name in root.data.tags), len(ledger.amendments())
        ended = root.info.end_time if root.info.status == "FINISHED" else 0
        if grown > here:
            more = [f"amendment {grown}"]
        elif grown == here and ended > int(ledger.facts().get("finished_at", 0) * 1000):
            more = ["a later verdict"]
    if more:
        where, name = redact(uri), ledger.study_name
        raise ConfigError(
            f"{where} has of {name} what {ledger.folder.location} lacks ({', '.join(more[:SHOWN])}{' and others' * (len(more) > SHOWN)}): "
            f"an older copy of the study, or another one. Send the newer folder. Or fetch it: python -m study.tracking fetch FOLDER "
            f"--study {name} --mlflow {where}. Or rename this folder, which is then sent beside it"
        )


def is_whole(cursor: Cursor, there: Collection[str], runs: Runs) -> bool:
    """Return False where a run, the study's files or a network that were sent are no longer on the server."""
    if not set(cursor.runs.values()) <= set(there):
        return False
    kept = {model.rpartition(":")[2]: (NETWORK, CALIBRATED) if ":" in model else (NETWORK,) for model in sorted(cursor.models)}
    kept |= {"": ("study.json",)} if "study.json" in cursor.files else {}
    return all(key in cursor.runs and runs.has(cursor.runs[key], names) for key, names in kept.items())
