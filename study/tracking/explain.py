"""Faults of a server as one line with the way out. They are recognised by class, code and HTTP status, never by the words of a text."""

import os
import re
import socket
import sqlite3
import ssl

from study.console.text import redact, shown
from study.errors import StudyError
from study.storage.refusals import causes

STATUS = {
    **dict.fromkeys(("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"), 401),
    "PERMISSION_DENIED": 403,
    **dict.fromkeys(("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"), 404),
    **dict.fromkeys(("REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"), 429),
    "TEMPORARILY_UNAVAILABLE": 503,
}
"""MLflow's words for the HTTP status of an answer, those that have a way out."""
NO_MLFLOW = "answers, but not as MLflow does. Give the address by which MLflow's page opens"
NO_SUCH_PATH = "ENDPOINT_NOT_FOUND"  # 404 of a server that knows nothing of MLflow there
ANSWERED = re.compile(r"API request to endpoint \S+ failed with error code (\d{3}) != \d{3}")
"""The sentence in which MLflow's client keeps the status of an answer that is no JSON."""
GAVE_UP = re.compile(r"too many (\d{3}) error responses")
"""urllib3's, of a status that it was told to try again, in a ResponseError."""
NO_JSON = "API request to endpoint was successful but the response body was not in a valid JSON format"
"""The sentence of MLflow's client about a page of something else."""


def explain(error: Exception, uri: str) -> str:
    """Return one line without passwords and without control characters, since its text is the server's."""
    if isinstance(error, StudyError):  # ours already: about the ledger, or about what the server holds
        return str(error)
    text, where = shown(" ".join(str(error).split()))[:300], redact(uri)
    known = next((line for cause in causes(error) if (line := _way_out(cause, text, uri))), None)
    return f"{where} {known}" if known else redact(f"{where}: {type(error).__name__}: {text}", uri)


def _way_out(error: BaseException, text: str, uri: str) -> str | None:
    """Return the text that follows the address; None where the error suggests no way out."""
    if isinstance(error, socket.gaierror):
        return "has a host name that is not known here. Check its spelling, or give its address"
    if isinstance(error, ConnectionRefusedError):
        return "refuses connections. Is the server running?"
    if isinstance(error, TimeoutError) or any(kind.__name__ == "Timeout" for kind in type(error).__mro__):
        return "accepts but does not answer (timed out)"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "has a certificate that is not trusted here. Name its authority's file as MLFLOW_TRACKING_SERVER_CERT_PATH"
    if isinstance(error, ssl.SSLError):
        return "does not speak TLS as asked. Is it http:// rather than https://?"
    if type(error).__name__ == "TooManyRedirects" or (hasattr(error, "error_code") and str(error).startswith(NO_JSON)):
        return NO_MLFLOW
    if isinstance(error, ModuleNotFoundError):
        return f"needs the package {error.name}, which is not installed here. Install it, or name another store with --mlflow"
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(getattr(error, "sqlite_errorcode", 0) & 0xFF, text, uri)
    if getattr(error, "error_code", None) == NO_SUCH_PATH:
        return "answers, but knows no MLflow at that path. Give the address by which its page opens"
    return _of_status(_status(error), text, uri)


def _of_sqlite(code: int, text: str, uri: str) -> str | None:
    if code == sqlite3.SQLITE_NOTADB:
        return (
            "is no database. Name another with --mlflow. Where it was one, it has lost its runs: restore its backup or move it away, "
            f"then sync, which sends all anew{_taken_from(uri)}"
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return _lost(text, uri)
    if code == sqlite3.SQLITE_CANTOPEN:
        return f"cannot be opened or made. Make its folder, or mend its permissions (a path of three slashes starts at {os.getcwd()})"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return "may not be written here. Mend its permissions, or name another with --mlflow"
    if code == sqlite3.SQLITE_FULL:
        return "lies on a full disk. Make room"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "is held by another process. End that, or wait"
    return None


def _of_status(status: int | None, text: str, uri: str) -> str | None:
    if status == 401:
        return "refused the login (401). Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if status == 403:
        return "refused (403): no permission, or the server's --allowed-hosts lacks this host name"
    if status == 404:
        return _lost(text, uri)
    if status == 429:
        return "takes no more requests now (429). Sync later"
    if status == 500:
        return "failed inside (500). Look into its log, and sync once it is mended"
    if status in (502, 503, 504):
        return f"is not ready ({status}). Sync once it is"
    return None


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that MLflow's client names, else that of the answer which requests or boto3 keep."""
    named = STATUS.get(str(getattr(error, "error_code", None)))
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):
        answer = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    held = getattr(answer, "status_code", answer)
    pattern = ANSWERED if getattr(error, "error_code", None) else GAVE_UP if type(error).__name__ == "ResponseError" else None
    told = pattern.match(str(error)) if pattern else None
    return named or (held if isinstance(held, int) else int(told[1]) if told else None)


def _taken_from(uri: str) -> str:
    """Return a note for a relative SQLite path, which begins in the working folder; an empty text for other addresses."""
    scheme, _, path = uri.partition("///")
    if not scheme.startswith("sqlite") or path.startswith("/"):
        return ""
    return f". Its path is taken from {os.getcwd()}. From everywhere, write sqlite:////full/path/mlflow.db"


def _lost(text: str, uri: str) -> str:
    return (
        f"has lost its runs ({redact(text[:120])}). Restore its backup, or move away what is damaged, then sync: what is gone is sent "
        f"anew{_taken_from(uri)}"
    )
