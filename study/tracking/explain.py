"""A server's fault as one line with the way out."""

import os
import re

from study.errors import StudyError
from study.facts import redact

LOGIN, FORBIDDEN, GONE = 401, 403, 404
STATUS = {"CUSTOMER_UNAUTHORIZED": LOGIN, "UNAUTHENTICATED": LOGIN, "PERMISSION_DENIED": FORBIDDEN, "RESOURCE_DOES_NOT_EXIST": GONE}
"""HTTP's number of MLflow's own codes, which its database stores use too."""
INACTIVE = re.compile(r"The (run|experiment) (\S+) must be in the 'active' state")


def explain(error: Exception, uri: str) -> str:
    """One line; passwords never in it, nor anything that a terminal would obey: its text is the server's, and holds names and ids of others,
    so that refusals are told by the error's code and never by its text."""
    if isinstance(error, StudyError):  # ours already: about the ledger, or about what the server holds
        return str(error)
    whole = printable(" ".join(str(error).split()))
    text, where, status = whole[:300], redact(uri), status_of(error)
    if status == LOGIN:
        return f"{where} refused the login (401); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if status == FORBIDDEN:
        return f"{where} refused (403): no permission, or the server's --allowed-hosts lacks this host name"
    if found := INACTIVE.match(whole.removeprefix("INVALID_PARAMETER_VALUE: ")):
        kind, name = found.groups()
        option = "--run-id" if kind == "run" else "--experiment-id"
        return (
            f"the {kind} {name} was deleted in {where}; restore it, then sync: "
            f"MLFLOW_TRACKING_URI={where} mlflow {kind}s restore {option} {name}; or give the study another --name"
        )
    if status == GONE or "not a database" in text:
        return (
            f"{where} has lost its runs ({redact(text[:120])}); restore its backup, or give it an empty store and send all anew: "
            f"remove mlflow.json from the study's folder, then sync{_taken_from(uri)}"
        )
    if "ReadTimeout" in whole or "timed out" in whole:
        return f"{where} accepts but does not answer (timed out)"
    if "Connection refused" in whole:
        return f"{where} refuses connections; is the server running?"
    return redact(f"{where}: {type(error).__name__}: {text}")


def status_of(error: BaseException) -> int | None:
    """HTTP's status that an error stands for: of the answer it carries, of MLflow's code, or as MLflow says it of an answer that is no
    JSON. None where it stands for none."""
    answered = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(answered, int):
        return answered
    code = str(getattr(error, "error_code", ""))
    if code in STATUS:
        return STATUS[code]
    said = re.match(r"API request to endpoint \S+ failed with error code (\d{3}) != \d{3}", str(error)) if code else None
    return int(said[1]) if said else None


def _taken_from(uri: str) -> str:
    """Of an SQLite path that begins in the folder of today: that it does."""
    scheme, _, path = uri.partition("///")
    if not scheme.startswith("sqlite") or path.startswith("/"):
        return ""
    return f". Its path is taken from {os.getcwd()}; from everywhere, write sqlite:////full/path/mlflow.db"


def printable(text: str) -> str:
    """`text` with every control character shown as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
