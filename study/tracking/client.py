"""The only access to MLflow's client, with the settings for sending and for reading back."""

import os
import re
from typing import TYPE_CHECKING

from study.console.text import redact, shown
from study.errors import ConfigError
from study.storage.options import check_tracking
from study.tracking.ledger import Ledger

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

KEY = "study.key"
"""The tag by which a run is found again: "STUDY:" for the study's own, "STUDY:CELL" for a cell's, "STUDY:TRIAL" for a trial's.
An experiment has it too, "STUDY", since a person may rename it."""
BEGUN = "study.begun"
"""The tag of an experiment that says when its study was first asked (`Ledger.begun`): what tells studies of one name apart."""

PAGE = 1000  # runs an answer

SETTINGS = {  # a user's own values win
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
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
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(uri)


def find_experiments(client: "MlflowClient", study: str) -> "list[Experiment]":
    """Return the experiments that have this name by our tag, and the one that is called so, whosever it is; deleted ones last."""
    from mlflow.entities import ViewType

    found = {e.experiment_id: e for e in client.search_experiments(ViewType.ALL, filter_string=f"tags.`{KEY}` = '{study}'")}
    if (called := client.get_experiment_by_name(study)) is not None:
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
            f"experiments restore --experiment-id {known.experiment_id}), then sync. Or give the study another name with --name"
        )
    ours = f"tags.`{KEY}` LIKE '{study}:%'"
    gone = list(client.search_runs([known.experiment_id], ours, ViewType.DELETED_ONLY, max_results=PAGE))
    if gone:  # what was sent anew since is not missing
        there = {run.data.tags[KEY] for run in client.search_runs([known.experiment_id], ours, max_results=PAGE)}
        gone = [run for run in gone if run.data.tags[KEY] not in there]
    if not gone:
        return None
    first = gone[0].info.run_id
    return (
        f"{where}: {len(gone)} run{'s' * (len(gone) > 1)} of the study {study} {'were' if len(gone) > 1 else 'was'} deleted there. "
        f"Restore {'them' if len(gone) > 1 else 'it'} (MLFLOW_TRACKING_URI={where} mlflow runs restore --run-id "
        f"{first}{', ...' * (len(gone) > 1)}), or send all anew: remove mlflow.json from the study's folder, then sync"
    )


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
