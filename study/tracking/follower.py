"""A tracker as a child process, which polls the ledger while a sweep runs."""

import json
import os
import shlex
import subprocess
import sys

from study.console.text import redact
from study.tracking.client import own_uri
from study.tracking.ledger import Ledger
from study.tracking.tracker import SyncReport
from study.tracking.trackers import TRACKERS


class Follower:
    """A child process that updates one tracker from one ledger until it is closed: the MLflow server at `uri`, or
    `trackers.open_tracker`'s."""

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
        """Let the process send the rest, for at most `timeout` seconds, and return its last report."""
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
        """Return a line for the terminal: the command to type, or the page to open."""
        kind, _, place = self.uri.partition(":")
        if kind in TRACKERS:
            return TRACKERS[kind].look.format(place=shlex.quote(place))
        return f"MLflow: mlflow ui --backend-store-uri {self.uri}" if kind == "sqlite" else f"MLflow: {redact(self.uri)}"

    def how_to_send(self) -> str:
        """Return the command that sends the rest."""
        option = "--track" if self.uri.partition(":")[0] in TRACKERS else "--mlflow"
        server = "" if self.is_default else f" {option} {redact(self.uri)}"
        return f"python -m study.tracking sync {self.ledger.folder.location}{server}"


def child_environment(uri: str) -> dict[str, str]:
    """Return the environment of `python -m study.tracking`, which holds the server's address: an argument could reveal its password."""
    environment = {**os.environ, "STUDY_MLFLOW_URI": uri}
    environment.setdefault("PYTHONPATH", os.pathsep.join(sys.path[:1] + [os.getcwd()]))
    return environment
