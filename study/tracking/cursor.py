"""The state of a study on a server, kept beside the study in mlflow.json. It only saves time: without it everything is found again by
tag."""

import contextlib
import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Self

from study.console.text import redact
from study.records import dumps
from study.storage.folder import Folder

NAME = "mlflow.json"


@dataclass(kw_only=True)
class Cursor:
    """Records of what was sent. Keys as in study.tracking.client.KEY: "" the study, a cell's id, a trial's id."""

    uri: str  # without its password
    study: str = ""  # whose runs they are: a folder that was copied under another name has runs of its own to make
    runs: dict[str, str] = field(default_factory=dict)  # key -> run id
    epochs: dict[str, int] = field(default_factory=dict)  # trial -> epochs sent
    ended: set[str] = field(default_factory=set)  # trials whose result and files are there
    models: set[str] = field(default_factory=set)  # trials registered as a model
    files: dict[str, str] = field(default_factory=dict)  # name within the study's folder -> mark of what was sent
    amendments: int = 0  # sent
    closed: str = ""  # mark of the study's last word that was sent; empty while its runs are open

    @classmethod
    def load(cls, folder: Folder, uri: str, study: str) -> Self:
        """Return the saved cursor; a new one where there is none, it is another server's or study's, or it cannot be read."""
        known: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            known = json.loads(folder.read(NAME) or b"{}")
        fresh = cls(uri=redact(uri), study=study)
        if not isinstance(known, dict) or (known.get("uri"), known.get("study")) != (fresh.uri, study):
            return fresh
        return dataclasses.replace(
            fresh,
            runs=_entries(known.get("runs"), str),
            epochs=_entries(known.get("epochs"), int),
            ended=set(_texts(known.get("ended"))),
            models=set(_texts(known.get("models"))),
            files=_entries(known.get("files"), str),
            amendments=known["amendments"] if type(known.get("amendments")) is int else 0,
            closed=known["closed"] if isinstance(known.get("closed"), str) else "",
        )

    def forget(self) -> None:
        """Forget all that was sent. What is there still is found again by tag, and sending it twice stores it once."""
        self.runs, self.epochs, self.files, self.ended, self.models = {}, {}, {}, set(), set()
        self.amendments, self.closed = 0, ""

    def save(self, folder: Folder) -> None:
        values = {**dataclasses.asdict(self), "ended": sorted(self.ended), "models": sorted(self.models)}
        with contextlib.suppress(Exception):  # a full disk: found by tag next time
            folder.write(NAME, dumps(values).encode())


def mark(data: bytes) -> str:
    """Return a short hash that tells contents apart."""
    return hashlib.sha256(data).hexdigest()[:16]


def _entries(value: Any, kind: type) -> dict[str, Any]:
    return {k: v for k, v in value.items() if type(v) is kind} if isinstance(value, dict) else {}


def _texts(value: Any) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
