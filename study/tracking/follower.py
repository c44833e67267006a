"""The mirror as a child process, which polls the ledger while a sweep runs."""

import json
import os
import subprocess
import sys

from study.console.text import redact
from study.tracking.client import own_uri
from study.tracking.ledger import Ledger
from study.tracking.mirror import SyncReport


class Follower:
    def __init__(self, ledger: Ledger, uri: str | None = None) -> None:
        self.ledger, self.uri, self.is_default = ledger, uri or own_uri(ledger), uri is None
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "study.tracking", "follow", self.ledger.folder.location],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=child_environment(self.uri),
            start_new_session=True,
        )

    def close(self, timeout: float = 60.0) -> SyncReport:
        """Lets it send the rest, for at most `timeout` seconds."""
        assert self.process is not None
        try:
            output, _ = self.process.communicate(timeout=timeout)  # closes its stdin: the sign to finish
            return SyncReport(**json.loads(output.strip().splitlines()[-1]))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            problem = f"{redact(self.uri)} did not take everything within {timeout:.0f} s"
        except (ValueError, IndexError):
            problem = "the tracking process ended early"
        pending = sum(1 + len(self.ledger.epochs(a.trial_id)) for a in self.ledger.asks())
        return SyncReport(pending=pending, problem=problem)

    def how_to_look(self) -> str:
        if self.uri.startswith("sqlite"):
            return f"mlflow ui --backend-store-uri {self.uri}"
        return redact(self.uri)


def child_environment(uri: str) -> dict[str, str]:
    """For `python -m study.tracking`: the server's address is no argument, since it may hold a password."""
    environment = {**os.environ, "STUDY_MLFLOW_URI": uri}
    environment.setdefault("PYTHONPATH", os.pathsep.join(sys.path[:1] + [os.getcwd()]))
    return environment
