"""A server's fault as one line with the way out."""

from study.errors import StudyError
from study.facts import redact


def explain(error: Exception, uri: str) -> str:
    """One line; passwords never in it, nor anything that a terminal would obey: its text is the server's."""
    if isinstance(error, StudyError):  # ours already: about the ledger, or about what the server holds
        return str(error)
    whole = printable(" ".join(str(error).split()))
    text, where = whole[:300], redact(uri)
    if "ReadTimeout" in whole or "timed out" in whole:
        return f"{where} accepts but does not answer (timed out)"
    if "Connection refused" in whole:
        return f"{where} refuses connections; is the server running?"
    if "401" in text or "UNAUTHORIZED" in text.upper():
        return f"{where} refused the login (401); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if "RESOURCE_DOES_NOT_EXIST" in text or "Run with id=" in text or "not a database" in text:
        return (
            f"{where} has lost its runs ({redact(text[:120])}); restore its backup, or give it an empty store and send all anew: "
            "remove mlflow.json from the study's folder, then sync"
        )
    if "403" in text or "FORBIDDEN" in text.upper():
        return f"{where} refused (403): no permission, or the server's --allowed-hosts lacks this host name"
    return redact(f"{where}: {type(error).__name__}: {text}")


def printable(text: str) -> str:
    """`text` with every control character shown as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
