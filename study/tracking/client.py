"""The only access to MLflow's client, with the settings for sending and for reading back."""

import os
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from study.console.text import redact, shown
from study.errors import ConfigError
from study.storage.options import check_tracking
from study.storage.refusals import explained
from study.tracking.ledger import Ledger

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

KEY = "study.key"
"""The tag by which a run is found again: "STUDY:" for the study's own, "STUDY:CELL" for a cell's, "STUDY:TRIAL" for a trial's.
An experiment has it too, "STUDY", since a person may rename it."""
BEGUN = "study.begun"
"""The tag of an experiment that says when its study was first asked (`Ledger.begun`): what tells studies of one name apart."""

SQLITE = "sqlite:///"
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
PAGE = 1000  # runs an answer

SETTINGS = {  # a user's own values win
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # a busy server may name an hour
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds without a byte
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def connect(uri: str) -> "MlflowClient":
    """Return a client of the server at `uri`.

    Raises ConfigError for a database of another program, to which opening would add MLflow's tables, and MLflow's own errors
    (study.tracking.explain), such as that of a store that is no database.
    """
    check_tracking(uri)
    _open_file(uri)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(uri)


def _open_file(uri: str) -> None:
    """Open an SQLite file, made where it is not there. Raises sqlite3.Error or EnvironmentProblem where that cannot be: MLflow tries it
    ten times, for two minutes."""
    path = uri.removeprefix(SQLITE).partition("?")[0]
    if not uri.startswith(SQLITE) or path.startswith("file:"):
        return
    with explained(path, another="name another with --mlflow"):
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    try:
        with closing(sqlite3.connect(path, timeout=0)) as database:
            database.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in BUSY:  # MLflow waits for one that is held
            raise


def find_experiments(client: "MlflowClient", study: str) -> "list[Experiment]":
    """Return the experiments that have this name by our tag, and the one that is called so, whosever it is; deleted ones last."""
    from mlflow.entities import ViewType

    found = {e.experiment_id: e for e in client.search_experiments(ViewType.ALL, filter_string=f"tags.`{KEY}` = '{study}'")}
    if (called := client.get_experiment_by_name(study)) is not None and called.name == study:  # what is no MLflow gives one without a name
        found.setdefault(called.experiment_id, called)
    return sorted(found.values(), key=lambda e: e.lifecycle_stage != "active")


def is_of(client: "MlflowClient", experiment: "Experiment", study: str, begun: str) -> bool:
    """Return True where the experiment is that of the study of this name which began then.

    One that was sent before it had the tag is known by the start of its study's run, and one that a person made is nobody's of ours.
    """
    from mlflow.entities import ViewType

    if experiment.tags.get(KEY, study) != study:
        return False
    if BEGUN in experiment.tags:
        return bool(experiment.tags[BEGUN] == begun)
    own = client.search_runs([experiment.experiment_id], f"tags.`{KEY}` = '{study}:'", ViewType.ALL, max_results=1)
    return own[0].info.start_time == int(float(begun) * 1000) or not float(begun) if own else KEY in experiment.tags


def deleted_there(client: "MlflowClient", uri: str, study: str, known: "Experiment") -> str | None:
    """Return a line that says what of the study a person deleted in its experiment, with the way out; None where nothing was."""
    from mlflow.entities import ViewType

    where = redact(uri)
    if known.lifecycle_stage != "active":
        return (
            f"{where}: the experiment {shown(known.name)} was deleted there. Restore it (MLFLOW_TRACKING_URI={where} mlflow "
            f"experiments restore --experiment-id {known.experiment_id}), then sync. Or rename the study's folder, then sync"
        )
    ours = f"tags.`{KEY}` LIKE '{study}:%'"
    gone = list(client.search_runs([known.experiment_id], ours, ViewType.DELETED_ONLY, max_results=PAGE))
    if gone:  # what was sent anew since is not missing
        there = {run.data.tags[KEY] for run in client.search_runs([known.experiment_id], ours, max_results=PAGE)}
        gone = [run for run in gone if run.data.tags[KEY] not in there]
    if not gone:
        return None
    ids = [run.info.run_id for run in gone]
    restore = f"MLFLOW_TRACKING_URI={where} mlflow runs restore --run-id"
    said = f"1 run of the study {study} was deleted there. Restore it ({restore} {ids[0]})"
    if len(ids) > 1:
        said = f"{len(ids)} runs of the study {study} were deleted there. Restore them (for id in {' '.join(ids)}; do {restore} $id; done)"
    return f"{where}: {said}, or send all anew: remove mlflow.json from the study's folder, then sync"


def default_uri(ledger: Ledger) -> str:
    """Return the address of an SQLite file beside the studies; for a results URL, in the working folder."""
    root = "." if ledger.folder.remote else os.path.dirname(ledger.folder.root)
    return f"sqlite:///{os.path.abspath(root)}/mlflow.db"


def own_uri(ledger: Ledger) -> str:
    """Return `default_uri` for code that sends or reads.

    Raises ConfigError for a folder whose name has a meaning in an address (%41, a question mark): the database would be made elsewhere or
    not at all.
    """
    uri = default_uri(ledger)
    if found := re.search(r"%[0-9a-fA-F]{2}|\?", uri):
        raise ConfigError(
            f"MLflow's database cannot lie in {uri.removeprefix('sqlite:///')}: {found[0]} in a path means something else in its address. "
            "Choose results in a folder without it, or another database with --mlflow URI, or --mlflow off."
        )
    return uri
