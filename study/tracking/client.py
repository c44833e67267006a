"""The only access to MLflow's client, with the settings for sending and for reading back."""

import os
import re
from typing import TYPE_CHECKING

from study.errors import ConfigError
from study.storage.options import check_tracking
from study.tracking.ledger import Ledger

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "study.key"
"""The tag by which a run is found again: "STUDY:" for the study's own, "STUDY:CELL" for a cell's, "STUDY:TRIAL" for a trial's."""

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
